#include "datasets/documents.h"

#include <fmt/format.h>

#include <cmath>
#include <stdexcept>

#include "datasets/philox.h"
#include "datasets/portable_math.h"

namespace longseq {
namespace {

constexpr std::uint64_t kDocumentStream = std::uint64_t{1} << 33;  // meets no stream of synthetic.h

/// Uniform in (0, 1), on a grid of 2^-52.
double uniform(std::uint64_t index, PhiloxKey key) {
  const PhiloxCounter words =
      philox4x32({static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32), 0, 0}, key);
  const std::uint64_t bits = (std::uint64_t{words[0]} << 20) | (words[1] >> 12);
  return (static_cast<double>(bits) + 0.5) / 4503599627370496.0;
}

/// ln(1 - p), by its series where 1 - p would lose p's digits.
double log_complement(double p) {
  if (p < 1e-5) return -p * (1.0 + p * (0.5 + p / 3.0));
  return portable_log(1.0 - p);
}

}  // namespace

std::vector<std::int64_t> document_starts(std::int64_t seq_len, double mean_length, std::uint64_t seed) {
  if (seq_len < 1) {
    throw std::invalid_argument(fmt::format("document_starts: seq_len = {}, expected 1 or more", seq_len));
  }
  if (!(mean_length >= 1) || !std::isfinite(mean_length)) {
    throw std::invalid_argument(fmt::format(
        "document_starts: mean document length = {}, expected a number of 1 or more", mean_length));
  }
  const PhiloxKey key = philox_key(seed, kDocumentStream);
  // P(length > n) = (1 - 1/mean)^n, inverted; a mean of 1 makes every length 1.
  const double log_survival = mean_length > 1 ? log_complement(1.0 / mean_length) : 0.0;
  std::vector<std::int64_t> starts{0};
  for (std::uint64_t document = 0;; ++document) {
    double length = 1.0;
    if (log_survival < 0) length += std::floor(portable_log(uniform(document, key)) / log_survival);
    if (length >= static_cast<double>(seq_len - starts.back())) return starts;
    starts.push_back(starts.back() + static_cast<std::int64_t>(length));
  }
}

}  // namespace longseq
