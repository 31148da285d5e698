// Who owns which positions of the sequence (maths.md, section 3). Any sequence length and number of ranks:
// shards may be uneven, or empty when there are more ranks than tokens.
#pragma once

#include <array>
#include <boost/container/small_vector.hpp>
#include <cstdint>
#include <span>
#include <string_view>

#include "kernels/positions.h"

namespace longseq {

enum class LayoutKind { contiguous, zigzag, striped };

struct LayoutRow {
  LayoutKind kind;
  std::string_view name;
  std::string_view owns;
};

inline constexpr std::array<LayoutRow, 3> kLayouts{{
    {LayoutKind::contiguous, "contiguous", "rank r owns one run of about S/P tokens"},
    {LayoutKind::zigzag, "zigzag", "rank r owns chunks r and 2P-1-r of 2P: causal work is balanced"},
    {LayoutKind::striped, "striped", "token i lies on rank i mod P: causal work is balanced"},
}};

/// Throws std::invalid_argument, naming the layouts there are, for any other name.
LayoutKind layout_kind(std::string_view name);

/// A span, also of a small_vector, whose iterators std::span does not take.
template <class T>
class ListView : public std::span<const T> {
 public:
  using std::span<const T>::span;
  ListView(const boost::container::small_vector_base<T>& list)
      : std::span<const T>(list.data(), list.size()) {}
};

/// The positions of one rank, in the order of its local rows. Shards and rows are made by the million when a
/// plan for thousands of ranks is priced: the usual few runs take no allocation.
using Shard = boost::container::small_vector<Run, 2>;
using ShardView = ListView<Run>;

/// Intervals of local rows (or of positions), ascending and disjoint unless said otherwise.
using Rows = boost::container::small_vector<Interval, 2>;
using RowsView = ListView<Interval>;

struct Layout {
  LayoutKind kind = LayoutKind::contiguous;
  std::int64_t seq_len = 0;
  int ranks = 1;

  Shard shard(int rank) const;

  /// All positions of ranks [begin, end), as few runs of stride 1: exact for contiguous and zigzag, the hull
  /// for striped.
  Shard span(int begin, int end) const;
};

/// Calls visit(run, first) for each run of the shard; `first` is the local row of the run's first position.
template <class Visit>
void for_each_run(ShardView shard, const Visit& visit) {
  std::int64_t first = 0;
  for (const Run& run : shard) {
    visit(run, first);
    first += run.count;
  }
}

inline std::int64_t tokens_in(ShardView shard) {
  std::int64_t tokens = 0;
  for (const Run& run : shard) tokens += run.count;
  return tokens;
}

/// One interval, or none if it is empty.
inline Rows rows_from(Interval interval) {
  return interval.empty() ? Rows{} : Rows(1, interval);
}

/// Appends an interval that begins no sooner than the last one ends: nothing if it is empty, and joined with
/// the last if they touch.
inline void append(Rows& rows, Interval interval) {
  if (interval.empty()) return;
  if (!rows.empty() && rows.back().end == interval.begin) {
    rows.back().end = interval.end;
  } else {
    rows.push_back(interval);
  }
}

/// Sorts intervals of rows, and joins those that touch or overlap.
void join(Rows& rows);

inline std::int64_t count_rows(RowsView rows) {
  std::int64_t count = 0;
  for (const Interval& interval : rows) count += interval.size();
  return count;
}

/// The rows that are in both; both ascending and disjoint.
Rows intersect(RowsView a, RowsView b);

/// The rows of `rows` that are not in `without`; both ascending and disjoint.
Rows difference(RowsView rows, RowsView without);

/// Part `index` of `total` things cut into `parts`, the first ones larger by one if need be.
Interval part_of(std::int64_t total, std::int64_t parts, std::int64_t index);

/// The local rows of `shard` whose positions lie in one of the intervals.
Rows rows_within(ShardView shard, RowsView positions);

/// Calls visit(run) for each run of the positions of some local rows of a shard.
template <class Visit>
void for_each_selected_run(ShardView shard, RowsView rows, const Visit& visit) {
  for (const Interval& interval : rows) {
    for_each_run(shard, [&](const Run& run, std::int64_t first) {
      const Interval inside = intersect(interval.shifted(-first), {0, run.count});
      if (!inside.empty()) visit(run.slice(inside));
    });
  }
}

/// The positions of some local rows of a shard.
Shard select(ShardView shard, RowsView rows);

}  // namespace longseq
