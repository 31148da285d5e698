// What the tiles of the forward and of the backward pass have in common: queries as lanes, pieces of keys,
// and who of the ones sees which of the others. Not for use outside kernels/.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "kernels/attention.h"
#include "kernels/tiles/coming.h"
#include "kernels/tiles/dot.h"
#include "kernels/tiles/folded_rows.h"

namespace longseq::detail {

inline constexpr double kLog2E = 1.44269504088896340736;  // exponents are kept to the base 2
inline constexpr std::int64_t kMostLanes = 64;            // queries of a tile, at most
inline constexpr std::int64_t kLaneBlock = 32;  // lanes that lie side by side: what is streamed together
inline constexpr std::int64_t kLaneGroup = 16;  // lanes that are computed or left out together
inline constexpr std::int64_t kMostGroups = kMostLanes / kLaneGroup;

template <class A>
using Index = std::conditional_t<sizeof(A) == 4, std::int32_t, std::int64_t>;

/// The queries of a tile as its kernels see them beside one key block.
template <class A>
struct Lanes {
  std::int64_t count = 0;                             // queries that are there
  alignas(64) Index<A> visible_begin[2][kMostLanes];  // the two intervals of visible rows of the key block
  alignas(64) Index<A> visible_size[2][kMostLanes];   // (0 where there is no query)
  alignas(64) Index<A> position[kMostLanes];          // less the position of the block's first key
  alignas(64) Index<A> table[kMostLanes];             // where the bias of distance 0 of its head lies
};

/// What each group of lanes sees of a key block: the hulls of its intervals, and the rows that all see.
struct Outlook {
  struct Group {
    Interval hull[2];
    Interval core[2];
  };
  Group groups[kMostGroups];
  int count = 0;     // groups that have a query
  Interval hull[2];  // of all groups
  Interval core[2];  // rows that all queries see
};

/// Fills the first `width` lanes for queries of `block_positions`, and their outlook.
template <class A>
void look(const Pattern& pattern, Run block_positions, const FoldedRows& queries, Run keys,
          std::int64_t width, Lanes<A>& lanes, Outlook& outlook);

/// Fills lanes.table, of all lanes, for the heads of these queries.
template <class A>
void find_tables(const FoldedRows& queries, const DistanceBias<A>& bias, Lanes<A>& lanes) {
  const auto table = [&](std::int64_t head) {
    return static_cast<Index<A>>(head * bias.row_size() + bias.reach);
  };
  queries.for_each(
      [&](std::int64_t lane, std::int64_t head, std::int64_t /*token*/) { lanes.table[lane] = table(head); });
  std::fill(lanes.table + lanes.count, lanes.table + kMostLanes, table(queries.head(0)));
}

/// Keys that the same lanes see, or nearly: `masked` where some pair of them is not visible.
struct Span {
  Interval keys;
  std::int64_t first_lane;
  std::int64_t last_lane;
  bool masked;
};

/// Some keys, cut into spans so that corners of windows and diagonals are not computed in full.
/// Scores outside the spans are neither written nor read.
struct Piece {
  Interval keys;                     // of the block
  Interval group_keys[kMostGroups];  // those that each group of lanes takes in, without a gap
  int span_count = 0;
  Span spans[2 * kMostGroups + 5];

  /// The spans from number `s` on that follow each other with the same lanes, as one, masked or not; `s`
  /// becomes the number of the last of them.
  Span joined(int& s) const {
    Span span = spans[s];
    while (s + 1 < span_count && spans[s + 1].first_lane == span.first_lane &&
           spans[s + 1].last_lane == span.last_lane && spans[s + 1].keys.begin == span.keys.end) {
      span.keys.end = spans[++s].keys.end;
    }
    return span;
  }
};
/// Makes the piece of those `keys` that are seen; false if none is, and then there is no piece. `granule`:
/// keys of which none is taken without the others, 1 or 2, counted from keys.begin; the piece may then have
/// one key more than there are, which nobody sees.
bool cut(const Outlook& outlook, Interval keys, std::int64_t granule, Piece& piece);

/// Keys and values as they are computed with: E is A, or Pair, of which a row of k holds neighbouring
/// dimensions and a row of v two neighbouring keys.
template <class E>
struct KeyRows {
  const E* k;
  const E* v;
  std::int64_t k_stride;
  std::int64_t v_stride;
  std::int64_t origin;  // the row of the key block that k and v point to
  Coming* coming;       // asked for between the steps of scores

  const E* k_row(std::int64_t key) const { return k + (key - origin) * k_stride; }
  const E* v_row(std::int64_t key) const { return v + (key - origin) / Element<E>::kValues * v_stride; }
};

/// The distance bias: a lane at key row j looks up table[lane] + clamp(position[lane] − j·key_stride,
/// ±reach).
template <class A>
struct TileBias {
  const A* values = nullptr;  // null: no bias
  Index<A> reach = 0;
  Index<A> key_stride = 1;
};

}  // namespace longseq::detail
