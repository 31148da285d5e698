// Who owns which positions of the sequence (maths.md, section 3). Any sequence length and number of ranks:
// shards may be uneven, or empty when there are more ranks than tokens.
#pragma once

#include <array>
#include <boost/container/small_vector.hpp>
#include <cstdint>
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

/// The positions of one rank, in the order of its local rows. Shards and rows are made by the million when a
/// plan for thousands of ranks is priced: the usual few runs take no allocation.
using Shard = boost::container::small_vector<Run, 2>;

/// Intervals of local rows (or of positions), ascending and disjoint unless said otherwise.
using Rows = boost::container::small_vector<Interval, 2>;

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
void for_each_run(const Shard& shard, const Visit& visit) {
  std::int64_t first = 0;
  for (const Run& run : shard) {
    visit(run, first);
    first += run.count;
  }
}

std::int64_t tokens_in(const Shard& shard);

/// One interval, or none if it is empty.
Rows rows_from(Interval interval);

/// Sorts intervals of rows, and joins those that touch or overlap.
void join(Rows& rows);

std::int64_t count_rows(const Rows& rows);

/// The rows that are in both; both ascending and disjoint.
Rows intersect(const Rows& a, const Rows& b);

/// The rows of `rows` that are not in `without`; both ascending and disjoint.
Rows difference(const Rows& rows, const Rows& without);

/// Part `index` of `total` things cut into `parts`, the first ones larger by one if need be.
Interval part_of(std::int64_t total, std::int64_t parts, std::int64_t index);

/// The local rows of `shard` whose positions lie in one of the intervals.
Rows rows_within(const Shard& shard, const Rows& positions);

/// The positions of some local rows of a shard.
Shard select(const Shard& shard, const Rows& rows);

}  // namespace longseq
