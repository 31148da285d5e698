#include "datasets/synthetic.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>

#include "datasets/philox.h"
#include "datasets/portable_math.h"

namespace longseq {
namespace {

constexpr std::int64_t kMaxHeads = 1 << 16;
constexpr std::int64_t kMaxHeadDim = std::int64_t{1} << 18;

/// Weights have streams from here on, tensors below it.
constexpr std::uint64_t kFirstWeightStream = std::uint64_t{1} << 32;

/// Four standard-normal numbers of four uniform words, by Box and Muller (1958). The uniform numbers are
/// (word + ½) / 2³², so the largest result is 6.76.
std::array<double, 4> four_normals(const PhiloxCounter& words) {
  std::array<double, 4> normals;
  for (std::size_t i = 0; i < 4; i += 2) {
    const double radius = std::sqrt(-2.0 * portable_log((words[i] + 0.5) / 4294967296.0));
    const SineCosine angle = portable_sine_cosine(words[i + 1]);
    normals[i] = radius * angle.cosine;
    normals[i + 1] = radius * angle.sine;
  }
  return normals;
}

constexpr std::uint32_t low(std::int64_t value) {
  return static_cast<std::uint32_t>(value);
}
constexpr std::uint32_t high(std::int64_t value) {
  return static_cast<std::uint32_t>(static_cast<std::uint64_t>(value) >> 32);
}

template <class T>
void fill_row(std::span<T> row, PhiloxCounter counter, PhiloxKey key, double scale) {
  for (std::size_t d = 0; d < row.size(); d += 4, ++counter[2]) {
    const auto normals = four_normals(philox4x32(counter, key));
    for (std::size_t i = 0; i < std::min<std::size_t>(4, row.size() - d); ++i) {
      row[d + i] = static_cast<T>(scale * normals[i]);
    }
  }
}

template <class T>
void fill_weights(std::span<T> values, std::uint64_t seed, std::uint32_t stream, double scale,
                  std::int64_t first) {
  if (first < 0)
    throw std::invalid_argument(fmt::format("seeded_normal: first = {}, expected 0 or more", first));
  const PhiloxKey key = philox_key(seed, kFirstWeightStream + stream);
  const std::int64_t end = first + static_cast<std::int64_t>(values.size());
  for (std::int64_t block = first / 4; 4 * block < end; ++block) {
    const auto normals = four_normals(philox4x32({low(block), high(block), 0, 0}, key));
    for (std::int64_t i = std::max(first, 4 * block); i < std::min(end, 4 * block + 4); ++i) {
      values[static_cast<std::size_t>(i - first)] =
          static_cast<T>(scale * normals[static_cast<std::size_t>(i % 4)]);
    }
  }
}

}  // namespace

template <class T>
void fill_normal(TensorView<T> view, Run positions, std::uint64_t seed, TensorId id, double scale,
                 std::int64_t first_head) {
  const auto [batch, heads, tokens, head_dim] = view.shape;
  if (tokens != positions.count || (tokens > 0 && std::min(positions.start, positions.last()) < 0)) {
    throw std::invalid_argument(fmt::format(
        "fill_normal: {} positions from {} by {} for a view of {} tokens; expected one position of 0 or "
        "more for each",
        positions.count, positions.start, positions.stride, tokens));
  }
  if (first_head < 0 || first_head + heads > kMaxHeads || head_dim > kMaxHeadDim) {
    throw std::invalid_argument(
        fmt::format("fill_normal: heads {} to {} of head_dim {}; expected heads below {} and "
                    "head_dim up to {}",
                    first_head, first_head + heads, head_dim, kMaxHeads, kMaxHeadDim));
  }
  const PhiloxKey key = philox_key(seed, static_cast<std::uint64_t>(id));
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t h = 0; h < heads; ++h) {
      for (std::int64_t t = 0; t < tokens; ++t) {
        const std::int64_t position = positions.at(t);
        const std::uint32_t head_word = low(first_head + h) << 16;  // the low half counts d / 4
        fill_row(std::span(view.row(b, h, t), static_cast<std::size_t>(head_dim)),
                 {low(position), high(position), head_word, low(b)}, key, scale);
      }
    }
  }
}

template void fill_normal(TensorView<float>, Run, std::uint64_t, TensorId, double, std::int64_t);
template void fill_normal(TensorView<double>, Run, std::uint64_t, TensorId, double, std::int64_t);

void seeded_normal(std::span<float> values, std::uint64_t seed, std::uint32_t stream, double scale,
                   std::int64_t first) {
  fill_weights(values, seed, stream, scale, first);
}

void seeded_normal(std::span<double> values, std::uint64_t seed, std::uint32_t stream, double scale,
                   std::int64_t first) {
  fill_weights(values, seed, stream, scale, first);
}

}  // namespace longseq
