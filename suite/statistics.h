// Statistics of repetitions, by the rules of Hoefler & Belli, "Scientific Benchmarking of Parallel Computing
// Systems" (SC'15): medians with non-parametric intervals; rates averaged harmonically.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace longseq {

/// The middle sample, or the mean of the two middle ones. Throws std::invalid_argument without samples.
double median(std::span<const double> samples);

/// The p-quantile, 0 <= p <= 1, interpolated linearly between order statistics (type 7 of Hyndman & Fan
/// 1996).
double quantile(std::span<const double> samples, double p);

/// Order statistics number low and high (from 1) of n samples enclose the median with this probability.
struct MedianRanks {
  std::int64_t low = 0;
  std::int64_t high = 0;
  double coverage = 0;
  friend bool operator==(const MedianRanks&, const MedianRanks&) = default;
};

/// The innermost symmetric ranks whose coverage by the binomial distribution (n, 1/2) is at least
/// `confidence` in (0, 1); nothing if n is too small (fewer than 6 for 95 %).
std::optional<MedianRanks> median_ranks(std::int64_t n, double confidence);

struct MedianInterval {
  double low = 0;
  double high = 0;
  double coverage = 0;  // exact, at least the confidence asked for
};

/// The exact, distribution-free confidence interval of the median; nothing if there are too few samples.
std::optional<MedianInterval> median_interval(std::span<const double> samples, double confidence);

/// The larger distance from the median to an end of its interval, as a fraction of the median.
double relative_half_width(const MedianInterval& interval, double median);

/// max/mean over ranks, 1 when all are equal (also when all are 0). Throws without values.
double imbalance(std::span<const double> per_rank);

}  // namespace longseq
