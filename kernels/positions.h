// Sets of token positions. Positions are global: they travel with the tokens, whatever rank holds them.
#pragma once

#include <algorithm>
#include <cstdint>

namespace longseq {

/// The half-open interval [begin, end) of positions or of row numbers; empty when end <= begin.
struct Interval {
  std::int64_t begin = 0;
  std::int64_t end = 0;

  constexpr bool empty() const { return end <= begin; }
  constexpr std::int64_t size() const { return empty() ? 0 : end - begin; }
  constexpr bool contains(std::int64_t position) const { return begin <= position && position < end; }
  constexpr Interval shifted(std::int64_t by) const { return {begin + by, end + by}; }
  friend constexpr bool operator==(const Interval&, const Interval&) = default;
};

constexpr Interval intersect(Interval a, Interval b) {
  return {std::max(a.begin, b.begin), std::min(a.end, b.end)};
}

/// The smallest interval that holds both.
constexpr Interval hull_of(Interval a, Interval b) {
  if (a.empty()) return b;
  if (b.empty()) return a;
  return {std::min(a.begin, b.begin), std::max(a.end, b.end)};
}

/// The arithmetic progression start, start + stride, ... of `count` positions. A shard is a short list of
/// runs; row t of a tensor shard holds the t-th position of its runs, taken one after the other.
struct Run {
  std::int64_t start = 0;
  std::int64_t stride = 1;
  std::int64_t count = 0;

  constexpr bool empty() const { return count <= 0; }
  constexpr std::int64_t at(std::int64_t index) const { return start + index * stride; }
  constexpr std::int64_t last() const { return at(count - 1); }

  /// The positions of rows [rows.begin, rows.end) of this run.
  constexpr Run slice(Interval rows) const { return {at(rows.begin), stride, rows.size()}; }

  /// The number of this run's positions that lie before `position`, in [0, count].
  constexpr std::int64_t rows_before(std::int64_t position) const {
    if (position <= start) return 0;
    if (stride == 1) return std::min(count, position - start);  // the usual case, without a division
    return std::min(count, (position - start + stride - 1) / stride);
  }

  /// The rows of this run whose positions lie in `positions`: an interval of row numbers.
  constexpr Interval rows_in(Interval positions) const {
    if (positions.empty()) return {0, 0};
    return {rows_before(positions.begin), rows_before(positions.end)};
  }
  friend constexpr bool operator==(const Run&, const Run&) = default;
};

}  // namespace longseq
