#include "kernels/forward_task.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>

#include "kernels/tiles/row_copy.h"

namespace longseq::detail {
namespace {

constexpr std::int64_t kPiecesPerPoll = 16;  // less than a millisecond of computing
constexpr double kLn2 = 0.69314718055994530942;

template <class T, class View>
std::array<T*, kForwardLanes> rows_of(const View& view, const ForwardTask& task, const FoldedRows& queries) {
  std::array<T*, kForwardLanes> rows{};
  for (std::int64_t t = 0; t < queries.rows.size(); ++t)
    rows[static_cast<std::size_t>(t)] = view.row(task.batch, queries.head(t), queries.token(t));
  return rows;
}

/// Asks for rows that will be written soon: they come from memory, and many at once come sooner.
template <class T>
void fetch(const std::array<T*, kForwardLanes>& rows, std::int64_t head_dim) {
  constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(T));
  for (const T* row : rows) {
    for (std::int64_t d = 0; row != nullptr && d < head_dim; d += kLine) __builtin_prefetch(row + d, 1, 3);
  }
}

/// The rows of the task's tile number `tile`.
FoldedRows tile_rows(const ForwardTask& task, std::int64_t tile) {
  const std::int64_t begin = task.queries.rows.begin + tile * kForwardLanes;
  return {task.queries.first_head,
          task.queries.fold,
          {begin, std::min(begin + kForwardLanes, task.queries.rows.end)}};
}

template <class A>
void begin_from_nothing(ForwardTile<A>& tile) {
  std::fill_n(tile.maximum, kForwardLanes, -std::numeric_limits<A>::infinity());
  std::fill_n(tile.sum, kForwardLanes, A{0});
  std::fill_n(tile.outputs, tile.head_dim * kForwardLanes, A{0});
}

template <class A>
void load_state(const AttentionState<A>& state, const ForwardTask& task, const FoldedRows& queries,
                ForwardTile<A>& tile) {
  begin_from_nothing(tile);
  bool any = false;
  for (std::int64_t t = 0; t < queries.rows.size(); ++t) {
    tile.maximum[t] = *state.maximum.row(task.batch, queries.head(t), queries.token(t));
    tile.sum[t] = *state.sum.row(task.batch, queries.head(t), queries.token(t));
    any = any || tile.sum[t] != A{0};
  }
  if (!any) return;
  const auto rows = rows_of<const A>(state.o, task, queries);
  rows_to_lanes<A>(rows.data(), queries.rows.size(), tile.head_dim, tile.outputs, kForwardLanes);
  for (std::int64_t t = 0; t < queries.rows.size(); ++t) {
    if (tile.sum[t] != A{0})
      continue;  // else the row has seen no key yet, and its outputs may be uninitialised
    for (std::int64_t d = 0; d < tile.head_dim; ++d) tile.outputs[d * kForwardLanes + t] = A{0};
  }
}

template <class A>
void store_state(const ForwardTile<A>& tile, const AttentionState<A>& state, const ForwardTask& task,
                 const FoldedRows& queries) {
  for (std::int64_t t = 0; t < queries.rows.size(); ++t) {
    *state.maximum.row(task.batch, queries.head(t), queries.token(t)) = tile.maximum[t];
    *state.sum.row(task.batch, queries.head(t), queries.token(t)) = tile.sum[t];
  }
  const auto rows = rows_of<A>(state.o, task, queries);
  lanes_to_rows<A>(tile.outputs, kForwardLanes, queries.rows.size(), tile.head_dim, rows.data());
}

template <class T, class A>
void store_result(ForwardTile<A>& tile, const ForwardResult<T>& result, const ForwardTask& task,
                  const FoldedRows& queries) {
  std::array<A, kForwardLanes> factor{};
  for (std::int64_t t = 0; t < queries.rows.size(); ++t) {
    const bool seen = tile.sum[t] != A{0};
    factor[static_cast<std::size_t>(t)] = seen ? A{1} / tile.sum[t] : A{0};
    *result.lse.row(task.batch, queries.head(t), queries.token(t)) =
        seen ? static_cast<A>(kLn2 * (static_cast<double>(tile.maximum[t]) +
                                      std::log2(static_cast<double>(tile.sum[t]))))
             : -std::numeric_limits<A>::infinity();
  }
  for (std::int64_t d = 0; d < tile.head_dim; ++d) {
    for (std::size_t t = 0; t < kForwardLanes; ++t)
      tile.outputs[d * kForwardLanes + static_cast<std::int64_t>(t)] *= factor[t];
  }
  const auto rows = rows_of<T>(result.o, task, queries);
  lanes_to_rows<T>(tile.outputs, kForwardLanes, queries.rows.size(), tile.head_dim, rows.data());
}

/// The piece's keys in the type that is computed in: where they lie, or widened into the scratch.
template <class T>
KeyRows<Accumulator<T>> widen(const KeyBlock<T>& keys, std::int64_t b, std::int64_t kv_head, Interval piece,
                              ForwardScratch<T>& scratch) {
  if constexpr (std::is_same_v<T, Accumulator<T>>) {
    return {keys.k.row(b, kv_head, 0), keys.v.row(b, kv_head, 0), keys.k.token_stride, keys.v.token_stride,
            0};
  } else {
    const std::int64_t head_dim = keys.k.shape.head_dim;
    pack_rows(keys.k.row(b, kv_head, piece.begin), keys.k.token_stride, piece.size(), head_dim, scratch.k,
              head_dim);
    pack_rows(keys.v.row(b, kv_head, piece.begin), keys.v.token_stride, piece.size(), head_dim, scratch.v,
              head_dim);
    return {scratch.k, scratch.v, head_dim, head_dim, piece.begin};
  }
}

/// Part number `part` of `parts` of the rows.
Interval share_of(Interval rows, std::int64_t part, std::int64_t parts) {
  return {rows.begin + rows.size() * part / parts, rows.begin + rows.size() * (part + 1) / parts};
}

template <class T>
void take_keys(const Pattern& pattern, const PositionTerms<Accumulator<T>>& terms, const QueryBlock<T>& block,
               const ForwardTask& task, const KeyBlock<T>& keys, std::int64_t tiles,
               ForwardScratch<T>& scratch, const Poll& poll) {
  using A = Accumulator<T>;
  std::array<Outlook, kTilesPerTask> outlooks;
  Interval hull{std::numeric_limits<std::int64_t>::max(), 0};
  for (std::int64_t i = 0; i < tiles; ++i) {
    const FoldedRows queries = tile_rows(task, i);
    ForwardTile<A>& tile = scratch.tiles[static_cast<std::size_t>(i)];
    Outlook& outlook = outlooks[static_cast<std::size_t>(i)];
    outlook = look(pattern, block.positions, queries, keys.positions, tile.lanes);
    if (!outlook.hull.empty())
      hull = {std::min(hull.begin, outlook.hull.begin), std::max(hull.end, outlook.hull.end)};
    if (terms.bias.values != nullptr) find_tables(queries, terms.bias, tile.lanes);
    if (terms.relative.present())
      scratch.relative[static_cast<std::size_t>(i)].begin_block(block.positions, queries, keys.positions);
  }
  // Pieces begin at multiples of kForwardKeys, wherever the hull begins: the order of sums must not depend on
  // which tiles share a task, and so on the number of threads.
  for (std::int64_t begin = hull.begin / kForwardKeys * kForwardKeys; begin < hull.end;
       begin += kForwardKeys) {
    const Interval keys_of_piece{std::max(begin, hull.begin), std::min(begin + kForwardKeys, hull.end)};
    if (poll && begin / kForwardKeys % kPiecesPerPoll == 0) poll();
    const std::int64_t next_end = std::min(begin + 2 * kForwardKeys, hull.end);
    KeyRows<A> rows = widen(keys, task.batch, task.kv_head, keys_of_piece, scratch);
    for (std::int64_t i = 0; i < tiles; ++i) {
      const Piece piece = cut(outlooks[static_cast<std::size_t>(i)], keys_of_piece);
      if (piece.keys.empty()) continue;
      if (rows.origin == 0) rows.coming = share_of({keys_of_piece.end, next_end}, i, tiles);
      if (terms.relative.present())
        scratch.relative[static_cast<std::size_t>(i)].fill(terms.relative, piece.keys, scratch.scores);
      attend_tile(scratch.tiles[static_cast<std::size_t>(i)], rows, piece,
                  TileBias<A>{terms.bias.values, static_cast<Index<A>>(terms.bias.reach),
                              static_cast<Index<A>>(keys.positions.stride)},
                  terms.relative.present(), scratch.scores);
    }
  }
}

}  // namespace

template <class T>
ForwardScratch<T>::ForwardScratch(std::int64_t head_dim, bool with_relative)
    : memory({1, 1, elements(head_dim, with_relative), 1}), tiles(kTilesPerTask) {
  A* next = memory.data();
  const auto take = [&next](std::int64_t count) { return std::exchange(next, next + count); };
  for (ForwardTile<A>& tile : tiles) {
    tile.queries = take(head_dim * kForwardLanes);
    tile.outputs = take(head_dim * kForwardLanes);
    tile.maximum = take(kForwardLanes);
    tile.sum = take(kForwardLanes);
    tile.head_dim = head_dim;
    tile.score_scale = static_cast<A>(kLog2E / std::sqrt(static_cast<double>(head_dim)));
    if (with_relative) relative.emplace_back(head_dim, take(RelativeScores<A>::elements(head_dim)));
  }
  scores = take(kForwardKeys * kForwardLanes);
  constexpr bool kWidens = !std::is_same_v<T, A>;
  k = kWidens ? take(kForwardKeys * head_dim) : nullptr;
  v = kWidens ? take(kForwardKeys * head_dim) : nullptr;
}

template <class T>
std::int64_t ForwardScratch<T>::elements(std::int64_t head_dim, bool with_relative) {
  return kTilesPerTask * ((2 * head_dim + 2) * kForwardLanes +
                          (with_relative ? RelativeScores<A>::elements(head_dim) : 0)) +
         kForwardKeys * kForwardLanes + (std::is_same_v<T, A> ? 0 : 2 * kForwardKeys * head_dim);
}

template <class T>
void run_task(const Pattern& pattern, const PositionTerms<Accumulator<T>>& terms, const QueryBlock<T>& block,
              const ForwardTask& task, const ForwardResult<T>* result, ForwardScratch<T>& scratch,
              const Poll& poll) {
  const std::int64_t tiles = (task.queries.rows.size() + kForwardLanes - 1) / kForwardLanes;
  const std::int64_t head_dim = block.q.shape.head_dim;
  for (std::int64_t i = 0; i < tiles; ++i) {
    const FoldedRows queries = tile_rows(task, i);
    auto& tile = scratch.tiles[static_cast<std::size_t>(i)];
    const auto rows = rows_of<const T>(block.q, task, queries);
    rows_to_lanes<T>(rows.data(), queries.rows.size(), tile.head_dim, tile.queries, kForwardLanes);
    if (terms.relative.present()) {
      const auto position_rows = rows_of<const T>(block.position_q, task, queries);
      rows_to_lanes<T>(position_rows.data(), queries.rows.size(), tile.head_dim,
                       scratch.relative[static_cast<std::size_t>(i)].queries(), kForwardLanes);
    }
    if (result != nullptr) {
      begin_from_nothing(tile);
    } else {
      load_state(block.state, task, queries, tile);
    }
  }
  for (const KeyBlock<T>& keys : block.keys)
    take_keys(pattern, terms, block, task, keys, tiles, scratch, poll);
  for (std::int64_t i = 0; i < tiles; ++i) {
    auto& tile = scratch.tiles[static_cast<std::size_t>(i)];
    if (result != nullptr) {
      if (i + 1 < tiles) fetch(rows_of<T>(result->o, task, tile_rows(task, i + 1)), head_dim);
      store_result(tile, *result, task, tile_rows(task, i));
    } else {
      store_state(tile, block.state, task, tile_rows(task, i));
    }
  }
}

#define LONGSEQ_INSTANTIATE(T)                                                                          \
  template struct ForwardScratch<T>;                                                                    \
  template void run_task<T>(const Pattern&, const PositionTerms<Accumulator<T>>&, const QueryBlock<T>&, \
                            const ForwardTask&, const ForwardResult<T>*, ForwardScratch<T>&, const Poll&);
LONGSEQ_INSTANTIATE(float)
LONGSEQ_INSTANTIATE(double)
LONGSEQ_INSTANTIATE(BFloat16)
#undef LONGSEQ_INSTANTIATE

}  // namespace longseq::detail
