#include "kernels/attention.h"

#include <fmt/format.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <tuple>
#include <utility>

#include "kernels/attention_tiles.h"
#include "kernels/parallel_rows.h"

namespace longseq {
namespace {

using detail::Index;
using detail::kTileKeys;
using detail::kTileRows;

constexpr double kLog2E = 1.44269504088896340736;
constexpr double kLn2 = 0.69314718055994530942;
constexpr std::int64_t kPiecesPerPoll = 16;  // less than a millisecond of computing
constexpr std::int64_t kTilesPerTask = 4;    // they share each block of keys while it is in cache

/// What one thread works in: the tiles of a task, and the scores of one of them.
template <class T>
struct Scratch {
  explicit Scratch(std::int64_t head_dim)
      : memory({1, 1, kTilesPerTask * elements_per_tile(head_dim) + kTileKeys * kTileRows, 1}) {
    T* next = memory.data();
    const auto take = [&next](std::int64_t count) { return std::exchange(next, next + count); };
    for (detail::QueryTile<T>& tile : tiles) {
      tile.queries = take(head_dim * kTileRows);
      tile.outputs = take(head_dim * kTileRows);
      tile.maximum = take(kTileRows);
      tile.sum = take(kTileRows);
      for (int i = 0; i < 2; ++i) {
        tile.visible_begin[i] = reinterpret_cast<Index<T>*>(take(kTileRows));
        tile.visible_end[i] = reinterpret_cast<Index<T>*>(take(kTileRows));
      }
      tile.head_dim = head_dim;
      tile.score_scale = static_cast<T>(kLog2E / std::sqrt(static_cast<double>(head_dim)));
    }
    scores = next;
  }
  static std::int64_t elements_per_tile(std::int64_t head_dim) { return (2 * head_dim + 6) * kTileRows; }

  Tensor<T> memory;
  std::array<detail::QueryTile<T>, kTilesPerTask> tiles;
  T* scores;
};

/// Rows [begin, begin + tile.rows) of a (tokens, head_dim) matrix into lanes; lanes without a row become
/// zero.
template <class T>
void transpose_in(const T* rows, std::int64_t stride, const detail::QueryTile<T>& tile, T* lanes) {
  for (std::int64_t d = 0; d < tile.head_dim; ++d) {
    T* out = lanes + d * kTileRows;
    for (std::int64_t t = 0; t < tile.rows; ++t) out[t] = rows[t * stride + d];
    std::fill(out + tile.rows, out + kTileRows, T{0});
  }
}

template <class T>
void load_state(const AttentionState<T>& state, std::int64_t b, std::int64_t h, std::int64_t first,
                detail::QueryTile<T>& tile) {
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
  transpose_in(state.o.row(b, h, first), state.o.token_stride, tile, tile.outputs);
  for (std::int64_t t = 0; t < tile.rows; ++t) {
    if (tile.sum[t] != T{0})
      continue;  // else the row has seen no key yet, and its outputs may be uninitialised
    for (std::int64_t d = 0; d < tile.head_dim; ++d) tile.outputs[d * kTileRows + t] = T{0};
  }
}

template <class T>
void store_state(const detail::QueryTile<T>& tile, const AttentionState<T>& state, std::int64_t b,
                 std::int64_t h, std::int64_t first) {
  for (std::int64_t t = 0; t < tile.rows; ++t) {
    *state.maximum.row(b, h, first + t) = tile.maximum[t];
    *state.sum.row(b, h, first + t) = tile.sum[t];
    T* out = state.o.row(b, h, first + t);
    for (std::int64_t d = 0; d < tile.head_dim; ++d) out[d] = tile.outputs[d * kTileRows + t];
  }
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
TileView look(const Pattern& pattern, Run queries, Run keys, const detail::QueryTile<T>& tile) {
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

/// One task: up to kTilesPerTask tiles of one query block, one batch entry and one head, over all its keys.
struct Task {
  std::int64_t block;
  std::int64_t batch;
  std::int64_t head;
  Interval rows;
  std::int64_t work;  // visible pairs
};

template <class T>
void take_keys(const Pattern& pattern, const DistanceBias<T>& bias, const QueryBlock<T>& block,
               const Task& task, const KeyBlock<T>& keys, std::int64_t tiles, Scratch<T>& scratch,
               const Poll& poll) {
  const std::int64_t kv_head = task.head / (block.q.shape.heads / keys.k.shape.heads);
  alignas(64) Index<T> query_position[kTilesPerTask][kTileRows] = {};
  std::array<TileView, kTilesPerTask> views;
  Interval hull{std::numeric_limits<std::int64_t>::max(), 0};
  for (std::int64_t i = 0; i < tiles; ++i) {
    const detail::QueryTile<T>& tile = scratch.tiles[i];
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
                  detail::KeyRows<T>{.k = keys.k.row(task.batch, kv_head, 0),
                                     .v = keys.v.row(task.batch, kv_head, 0),
                                     .k_stride = keys.k.token_stride,
                                     .v_stride = keys.v.token_stride,
                                     .begin = rows.begin,
                                     .end = rows.end,
                                     .masked = !views[i].seen_by_all(rows)},
                  detail::TileBias<T>{.values = table,
                                      .reach = static_cast<Index<T>>(bias.reach),
                                      .query_position = query_position[i],
                                      .key_stride = static_cast<Index<T>>(keys.positions.stride)},
                  scratch.scores);
    }
  }
}

template <class T>
void run_task(const Pattern& pattern, const DistanceBias<T>& bias, const QueryBlock<T>& block,
              const Task& task, Scratch<T>& scratch, const Poll& poll) {
  const std::int64_t tiles = (task.rows.size() + kTileRows - 1) / kTileRows;
  for (std::int64_t i = 0; i < tiles; ++i) {
    const std::int64_t first = task.rows.begin + i * kTileRows;
    detail::QueryTile<T>& tile = scratch.tiles[i];
    tile.rows = std::min(kTileRows, task.rows.end - first);
    transpose_in(block.q.row(task.batch, task.head, first), block.q.token_stride, tile, tile.queries);
    load_state(block.state, task.batch, task.head, first, tile);
  }
  for (const KeyBlock<T>& keys : block.keys)
    take_keys(pattern, bias, block, task, keys, tiles, scratch, poll);
  for (std::int64_t i = 0; i < tiles; ++i) {
    store_state(scratch.tiles[i], block.state, task.batch, task.head, task.rows.begin + i * kTileRows);
  }
}

/// Tasks: one key and value head after the other, so that all threads share its keys in cache; within it the
/// heaviest first, so that the last to finish are small.
template <class T>
std::vector<Task> plan_tasks(const Pattern& pattern, std::span<const QueryBlock<T>> blocks,
                             std::int64_t threads) {
  std::int64_t tiles = 0;
  for (const QueryBlock<T>& block : blocks) {
    tiles +=
        block.q.shape.batch * block.q.shape.heads * ((block.positions.count + kTileRows - 1) / kTileRows);
  }
  const std::int64_t tiles_per_task = std::clamp<std::int64_t>(tiles / (8 * threads), 1, kTilesPerTask);
  std::vector<Task> tasks;
  for (std::size_t index = 0; index < blocks.size(); ++index) {
    const QueryBlock<T>& block = blocks[index];
    for (std::int64_t begin = 0; begin < block.positions.count; begin += tiles_per_task * kTileRows) {
      const Interval rows{begin, std::min(begin + tiles_per_task * kTileRows, block.positions.count)};
      std::int64_t work = 0;
      for (const KeyBlock<T>& keys : block.keys)
        work += pattern.area(block.positions.slice(rows), keys.positions);
      if (work == 0) continue;
      for (std::int64_t b = 0; b < block.q.shape.batch; ++b) {
        for (std::int64_t h = 0; h < block.q.shape.heads; ++h) {
          tasks.push_back({static_cast<std::int64_t>(index), b, h, rows, work});
        }
      }
    }
  }
  const std::int64_t group = blocks.front().q.shape.heads / blocks.front().keys.front().k.shape.heads;
  std::stable_sort(tasks.begin(), tasks.end(), [group](const Task& a, const Task& b) {
    return std::tuple(a.batch, a.head / group, -a.work) < std::tuple(b.batch, b.head / group, -b.work);
  });
  return tasks;
}

template <class T>
void expect_same_head_dim(std::span<const QueryBlock<T>> blocks) {
  for (const QueryBlock<T>& block : blocks) {
    const std::int64_t head_dim = block.q.shape.head_dim;
    if (head_dim < 1 || head_dim > kMaxHeadDim || head_dim != blocks.front().q.shape.head_dim) {
      throw std::invalid_argument(
          fmt::format("head-dim is {}; expected 1 to {}, the same in every block", head_dim, kMaxHeadDim));
    }
  }
}

}  // namespace

template <class T>
void begin_attention(const AttentionState<T>& state) {
  parallel_rows(state.sum.shape, [&](std::int64_t b, std::int64_t h, std::int64_t t) {
    *state.maximum.row(b, h, t) = -std::numeric_limits<T>::infinity();
    *state.sum.row(b, h, t) = 0;
  });
}

template <class T>
void attend(const Pattern& pattern, const DistanceBias<T>& bias, std::span<const QueryBlock<T>> blocks,
            const Poll& poll) {
  if (blocks.empty()) return;
  expect_same_head_dim(blocks);
  const int threads = tbb::this_task_arena::max_concurrency();
  const std::vector<Task> tasks = plan_tasks(pattern, blocks, threads);
  const std::int64_t head_dim = blocks.front().q.shape.head_dim;
  const auto caller = std::this_thread::get_id();
  std::atomic<std::size_t> next{0};
  tbb::parallel_for(0, threads, [&](int) {
    const Poll own_poll = std::this_thread::get_id() == caller ? poll : Poll{};
    std::size_t index = next++;
    if (index >= tasks.size()) return;
    Scratch<T> scratch(head_dim);
    for (; index < tasks.size(); index = next++) {
      run_task(pattern, bias, blocks[static_cast<std::size_t>(tasks[index].block)], tasks[index], scratch,
               own_poll);
    }
  });
}

template <class T>
void finish_attention(const AttentionState<T>& state, TensorView<T> lse) {
  const std::int64_t head_dim = state.o.shape.head_dim;
  parallel_rows(state.o.shape, [&](std::int64_t b, std::int64_t h, std::int64_t t) {
    const T sum = *state.sum.row(b, h, t);
    T* out = state.o.row(b, h, t);
    if (sum == T{0}) {
      std::fill_n(out, head_dim, T{0});
      *lse.row(b, h, t) = -std::numeric_limits<T>::infinity();
      return;
    }
    for (std::int64_t d = 0; d < head_dim; ++d) out[d] /= sum;
    const auto maximum = static_cast<double>(*state.maximum.row(b, h, t));
    *lse.row(b, h, t) = static_cast<T>(kLn2 * (maximum + std::log2(static_cast<double>(sum))));
  });
}

template <class T>
void attention_forward(const Pattern& pattern, const DistanceBias<T>& bias, TensorView<const T> q,
                       TensorView<const T> k, TensorView<const T> v, TensorView<T> o, TensorView<T> lse) {
  Tensor<T> maximum({q.shape.batch, q.shape.heads, q.shape.tokens, 1});
  Tensor<T> sum(maximum.shape());
  const AttentionState<T> state{o, maximum.view(), sum.view()};
  begin_attention(state);
  const QueryBlock<T> block{q, {0, 1, q.shape.tokens}, state, {{k, v, {0, 1, k.shape.tokens}}}};
  attend<T>(pattern, bias, std::span(&block, 1));
  finish_attention(state, lse);
}

template <class T>
std::int64_t attention_scratch_bytes(std::int64_t head_dim) {
  return static_cast<std::int64_t>(sizeof(T)) *
         (kTilesPerTask * Scratch<T>::elements_per_tile(head_dim) + kTileKeys * kTileRows);
}

#define LONGSEQ_INSTANTIATE(T)                                                                    \
  template void begin_attention<T>(const AttentionState<T>&);                                     \
  template void attend<T>(const Pattern&, const DistanceBias<T>&, std::span<const QueryBlock<T>>, \
                          const Poll&);                                                           \
  template void finish_attention<T>(const AttentionState<T>&, TensorView<T>);                     \
  template void attention_forward<T>(const Pattern&, const DistanceBias<T>&, TensorView<const T>, \
                                     TensorView<const T>, TensorView<const T>, TensorView<T>,     \
                                     TensorView<T>);                                              \
  template std::int64_t attention_scratch_bytes<T>(std::int64_t);
LONGSEQ_INSTANTIATE(float)
LONGSEQ_INSTANTIATE(double)
#undef LONGSEQ_INSTANTIATE

}  // namespace longseq
