#include "kernels/attention_task.h"

#include <algorithm>
#include <array>
#include <limits>

namespace longseq::detail {
namespace {

constexpr std::int64_t kPiecesPerPoll = 16;  // less than a millisecond of computing

template <class T>
void load_state(const AttentionState<T>& state, std::int64_t b, std::int64_t h, std::int64_t first,
                QueryTile<T>& tile) {
  bool any = false;
  for (std::int64_t t = 0; t < kTileRows; ++t) {
    const bool there = t < tile.rows;
    tile.maximum[t] = there ? *state.maximum.row(b, h, first + t) : -std::numeric_limits<T>::infinity();
    tile.sum[t] = there ? *state.sum.row(b, h, first + t) : T{0};
    any = any || tile.sum[t] != T{0};
  }
  if (!any) {
    std::fill_n(tile.outputs, tile.head_dim * kTileRows, T{0});
    return;
  }
  rows_to_lanes(state.o.row(b, h, first), state.o.token_stride, tile.rows, tile.head_dim, tile.outputs);
  for (std::int64_t t = 0; t < tile.rows; ++t) {
    if (tile.sum[t] != T{0})
      continue;  // else the row has seen no key yet, and its outputs may be uninitialised
    for (std::int64_t d = 0; d < tile.head_dim; ++d) tile.outputs[d * kTileRows + t] = T{0};
  }
}

template <class T>
void store_state(const QueryTile<T>& tile, const AttentionState<T>& state, std::int64_t b, std::int64_t h,
                 std::int64_t first) {
  for (std::int64_t t = 0; t < tile.rows; ++t) {
    *state.maximum.row(b, h, first + t) = tile.maximum[t];
    *state.sum.row(b, h, first + t) = tile.sum[t];
  }
  lanes_to_rows(tile.outputs, tile.rows, tile.head_dim, state.o.row(b, h, first), state.o.token_stride);
}

/// What the tile's queries see of a key block: the hulls of their intervals, and the rows that all see.
struct TileView {
  Interval hull[2];
  Interval core[2];

  bool seen_by_some(Interval rows) const {
    return !intersect(rows, hull[0]).empty() || !intersect(rows, hull[1]).empty();
  }
  bool seen_by_all(Interval rows) const {
    return intersect(rows, core[0]) == rows || intersect(rows, core[1]) == rows;
  }
};

template <class T>
TileView look(const Pattern& pattern, Run queries, Run keys, const QueryTile<T>& tile) {
  constexpr std::int64_t kFar = std::numeric_limits<std::int64_t>::max();
  TileView view{{{kFar, 0}, {kFar, 0}}, {{0, kFar}, {0, kFar}}};
  for (std::int64_t t = 0; t < kTileRows; ++t) {
    const VisibleKeys visible = t < tile.rows ? pattern.visible_keys(queries.at(t)) : VisibleKeys{};
    const Interval rows[2] = {keys.rows_in(visible.first), keys.rows_in(visible.second)};
    for (int i = 0; i < 2; ++i) {
      tile.visible_begin[i][t] = static_cast<Index<T>>(rows[i].begin);
      tile.visible_end[i][t] = static_cast<Index<T>>(rows[i].end);
      if (t >= tile.rows) continue;
      view.core[i] = intersect(view.core[i], rows[i]);
      if (rows[i].empty()) continue;
      view.hull[i] = {std::min(view.hull[i].begin, rows[i].begin), std::max(view.hull[i].end, rows[i].end)};
    }
  }
  return view;
}

/// The keys that a piece [begin, end) of the block offers to the tile, cut to what is seen at all.
Interval cut(const TileView& view, Interval piece) {
  const Interval first = intersect(piece, view.hull[0]);
  const Interval second = intersect(piece, view.hull[1]);
  if (first.empty()) return second;
  if (second.empty()) return first;
  return {std::min(first.begin, second.begin), std::max(first.end, second.end)};
}

template <class T>
void take_keys(const Pattern& pattern, const DistanceBias<T>& bias, const QueryBlock<T>& block,
               const Task& task, const KeyBlock<T>& keys, std::int64_t tiles, Scratch<T>& scratch,
               const Poll& poll) {
  const std::int64_t kv_head = task.head / (block.q.shape.heads / keys.k.shape.heads);
  alignas(64) Index<T> query_position[kTilesPerTask][kTileRows] = {};
  std::array<TileView, kTilesPerTask> views;
  Interval hull{std::numeric_limits<std::int64_t>::max(), 0};
  for (std::int64_t i = 0; i < tiles; ++i) {
    const QueryTile<T>& tile = scratch.tiles[i];
    const std::int64_t first = task.rows.begin + i * kTileRows;
    const Run queries = block.positions.slice({first, first + tile.rows});
    views[i] = look(pattern, queries, keys.positions, tile);
    for (const Interval& seen : views[i].hull) {
      if (!seen.empty()) hull = {std::min(hull.begin, seen.begin), std::max(hull.end, seen.end)};
    }
    for (std::int64_t t = 0; t < tile.rows; ++t) {
      query_position[i][t] = static_cast<Index<T>>(queries.at(t) - keys.positions.start);
    }
  }
  // Pieces begin at multiples of kTileKeys, wherever the hull begins: the order of sums must not depend on
  // which tiles share a task, and so on the number of threads.
  for (std::int64_t begin = hull.begin / kTileKeys * kTileKeys; begin < hull.end; begin += kTileKeys) {
    const Interval piece{begin, std::min(begin + kTileKeys, hull.end)};
    if (poll && begin / kTileKeys % kPiecesPerPoll == 0) poll();
    for (std::int64_t i = 0; i < tiles; ++i) {
      const Interval rows = cut(views[i], piece);
      if (rows.empty()) continue;
      const T* table = bias.values == nullptr ? nullptr : bias.values + task.head * (2 * bias.reach + 1);
      attend_tile(scratch.tiles[i],
                  KeyRows<T>{.k = keys.k.row(task.batch, kv_head, 0),
                             .v = keys.v.row(task.batch, kv_head, 0),
                             .k_stride = keys.k.token_stride,
                             .v_stride = keys.v.token_stride,
                             .begin = rows.begin,
                             .end = rows.end,
                             .masked = !views[i].seen_by_all(rows)},
                  TileBias<T>{.values = table,
                              .reach = static_cast<Index<T>>(bias.reach),
                              .query_position = query_position[i],
                              .key_stride = static_cast<Index<T>>(keys.positions.stride)},
                  scratch.scores);
    }
  }
}

}  // namespace

template <class T>
void run_task(const Pattern& pattern, const DistanceBias<T>& bias, const QueryBlock<T>& block,
              const Task& task, Scratch<T>& scratch, const Poll& poll) {
  const std::int64_t tiles = (task.rows.size() + kTileRows - 1) / kTileRows;
  for (std::int64_t i = 0; i < tiles; ++i) {
    const std::int64_t first = task.rows.begin + i * kTileRows;
    QueryTile<T>& tile = scratch.tiles[i];
    tile.rows = std::min(kTileRows, task.rows.end - first);
    rows_to_lanes(block.q.row(task.batch, task.head, first), block.q.token_stride, tile.rows, tile.head_dim,
                  tile.queries);
    load_state(block.state, task.batch, task.head, first, tile);
  }
  for (const KeyBlock<T>& keys : block.keys)
    take_keys(pattern, bias, block, task, keys, tiles, scratch, poll);
  for (std::int64_t i = 0; i < tiles; ++i) {
    store_state(scratch.tiles[i], block.state, task.batch, task.head, task.rows.begin + i * kTileRows);
  }
}

template void run_task<float>(const Pattern&, const DistanceBias<float>&, const QueryBlock<float>&,
                              const Task&, Scratch<float>&, const Poll&);
template void run_task<double>(const Pattern&, const DistanceBias<double>&, const QueryBlock<double>&,
                               const Task&, Scratch<double>&, const Poll&);

}  // namespace longseq::detail
