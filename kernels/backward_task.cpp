#include "kernels/backward_task.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <thread>
#include <type_traits>
#include <utility>

#include "kernels/backward_terms.h"
#include "kernels/tiles/row_copy.h"

namespace longseq::detail {
namespace {

template <class T, class View>
std::array<T*, kBackwardLanes> rows_of(const View& view, std::int64_t batch, const FoldedRows& queries) {
  std::array<T*, kBackwardLanes> rows{};
  for (std::int64_t t = 0; t < queries.rows.size(); ++t)
    rows[static_cast<std::size_t>(t)] = view.row(batch, queries.head(t), queries.token(t));
  return rows;
}

/// Rows to lanes, in blocks, and packed as rows.
template <class T>
void load_rows(const std::array<const T*, kBackwardLanes>& rows, std::int64_t count, std::int64_t head_dim,
               std::int64_t stride, Accumulator<T>* lanes, Accumulator<T>* packed) {
  for (std::int64_t first = 0; first < kBackwardLanes; first += kLaneBlock) {
    rows_to_lanes<T>(rows.data() + first, std::clamp<std::int64_t>(count - first, 0, kLaneBlock), head_dim,
                     lanes + first * head_dim, kLaneBlock);
  }
  for (std::int64_t t = 0; t < count; ++t)
    pack_rows<T>(rows[static_cast<std::size_t>(t)], 0, 1, head_dim, packed + t * stride, stride);
  std::fill(packed + count * stride, packed + kBackwardLanes * stride, Accumulator<T>{0});
}

template <class T>
void load_tile(const BackwardCall<T>& call, const GradientQueries<T>& block, const BackwardTask& task,
               const FoldedRows& queries, BackwardScratch<T>& scratch) {
  using A = Accumulator<T>;
  BackwardTile<A>& tile = scratch.tile;
  const std::int64_t count = queries.rows.size();
  load_rows<T>(rows_of<const T>(block.q, task.batch, queries), count, tile.head_dim, tile.stride,
               tile.query_lanes, tile.query_rows);
  load_rows<T>(rows_of<const T>(block.d_o, task.batch, queries), count, tile.head_dim, tile.stride,
               tile.d_o_lanes, tile.d_o_rows);
  if (call.terms.relative.present()) {
    load_rows<T>(rows_of<const T>(block.position_q, task.batch, queries), count, tile.head_dim, tile.stride,
                 scratch.relative.query_lanes, scratch.relative.query_rows);
    std::fill_n(scratch.relative.dq_rows, kBackwardLanes * tile.stride, A{0});
  }
  std::fill_n(tile.dq_rows, kBackwardLanes * tile.stride, A{0});
  for (std::int64_t t = 0; t < kBackwardLanes; ++t) {
    A lse = 0, delta = 0;
    if (t < count) {
      lse = *block.lse.row(task.batch, queries.head(t), queries.token(t));
      delta = *block.delta.row(task.batch, queries.head(t), queries.token(t));
    }
    tile.lse[t] = lse == -std::numeric_limits<A>::infinity() ? A{0} : lse * static_cast<A>(kLog2E);
    tile.delta[t] = delta;
  }
}

/// The tiles [begin, end) of a pass over a query block that may see the keys: all that do lie within.
template <class T>
Interval tiles_that_see(const BackwardCall<T>& call, const GradientQueries<T>& block, Run keys,
                        std::int64_t tiles) {
  if (call.pattern.kind == PatternKind::global)
    return {0, tiles};  // its first rows see more than their followers
  const auto seen_by = [&](std::int64_t tile) {
    const std::int64_t begin = tile * kBackwardLanes / call.fold;
    const std::int64_t end =
        std::min(((tile + 1) * kBackwardLanes - 1) / call.fold + 1, block.positions.count);
    return call.pattern.keys_seen_by(block.positions.slice({begin, end})).first;
  };
  const auto first_where = [&](auto holds) {
    std::int64_t low = 0, high = tiles;
    while (low < high) {
      const std::int64_t middle = (low + high) / 2;
      holds(seen_by(middle)) ? high = middle : low = middle + 1;
    }
    return low;
  };
  return {first_where([&](Interval seen) { return seen.end > keys.start; }),
          first_where([&](Interval seen) { return seen.begin > keys.last(); })};
}

template <class T>
void take_pieces(BackwardCall<T>& call, const BackwardTask& task, const GradientQueries<T>& block,
                 const FoldedRows& queries, const Outlook& outlook, BackwardScratch<T>& scratch) {
  using A = Accumulator<T>;
  const Run positions = call.keys[task.block].positions;
  const TileBias<A> bias{call.terms.bias.values, static_cast<Index<A>>(call.terms.bias.reach),
                         static_cast<Index<A>>(positions.stride)};
  const bool relative = call.terms.relative.present();
  for (std::int64_t begin = task.keys.begin; begin < task.keys.end; begin += kBackwardKeys) {
    const Piece piece = cut(outlook, {begin, std::min(begin + kBackwardKeys, task.keys.end)});
    if (piece.keys.empty()) continue;
    if (relative) score_relative(call, block.positions, positions, queries, piece, scratch);
    backward_tile(scratch.tile, scratch.keys, piece, bias, relative, scratch.weights, scratch.d_scores);
    if (call.gradients.bias != nullptr) add_bias_gradient(call, positions, piece, scratch);
    if (relative) add_relative_gradients(call, block.positions, positions, queries, piece, scratch);
  }
}

/// One tile of queries against the task's keys; then its dq, when it is the task's turn.
template <class T>
void take_tile(BackwardCall<T>& call, const BackwardTask& task, const GradientQueries<T>& block,
               const FoldedRows& queries, std::int64_t number, BackwardScratch<T>& scratch,
               const Poll& poll) {
  using A = Accumulator<T>;
  BackwardTile<A>& tile = scratch.tile;
  const GradientKeys<T>& keys = call.keys[task.block];
  const Outlook outlook = look(call.pattern, block.positions, queries, keys.positions, tile.lanes);
  if (intersect(outlook.hull, task.keys).empty()) return;
  if (call.terms.bias.values != nullptr) find_tables(queries, call.terms.bias, tile.lanes);
  load_tile(call, block, task, queries, scratch);
  take_pieces(call, task, block, queries, outlook, scratch);
  Procession& procession =
      call.by_batch_head[static_cast<std::size_t>(task.batch * keys.k.shape.heads + task.kv_head)];
  procession.pass(task.place, number);
  procession.wait(task.place, number, poll);
  const A factor = static_cast<A>(1.0 / std::sqrt(static_cast<double>(tile.head_dim)));
  const std::int64_t count = queries.rows.size();
  add_rows(tile.dq_rows, tile.stride, factor, count, tile.head_dim,
           rows_of<A>(block.dq, task.batch, queries).data());
  if (call.terms.relative.present()) {
    add_rows(scratch.relative.dq_rows, tile.stride, factor, count, tile.head_dim,
             rows_of<A>(block.d_position_q, task.batch, queries).data());
  }
  procession.pass(task.place, number + 1);
}

template <class T>
void load_keys(const GradientKeys<T>& keys, const BackwardTask& task, BackwardScratch<T>& scratch) {
  const std::int64_t stride = scratch.tile.stride, count = task.keys.size();
  pack_rows<T>(keys.k.row(task.batch, task.kv_head, task.keys.begin), keys.k.token_stride, count,
               scratch.tile.head_dim, scratch.keys.k, stride);
  pack_rows<T>(keys.v.row(task.batch, task.kv_head, task.keys.begin), keys.v.token_stride, count,
               scratch.tile.head_dim, scratch.keys.v, stride);
  std::fill_n(scratch.keys.dk, count * stride, Accumulator<T>{0});
  std::fill_n(scratch.keys.dv, count * stride, Accumulator<T>{0});
  scratch.keys.origin = task.keys.begin;
}

template <class T>
void store_keys(const GradientKeys<T>& keys, const BackwardTask& task, const BackwardScratch<T>& scratch) {
  using A = Accumulator<T>;
  const A factor = static_cast<A>(1.0 / std::sqrt(static_cast<double>(scratch.tile.head_dim)));
  for (std::int64_t n = 0; n < task.keys.size(); ++n) {
    A* dk = keys.dk.row(task.batch, task.kv_head, task.keys.begin + n);
    A* dv = keys.dv.row(task.batch, task.kv_head, task.keys.begin + n);
    add_rows(scratch.keys.dk + n * scratch.tile.stride, 0, factor, 1, scratch.tile.head_dim, &dk);
    add_rows(scratch.keys.dv + n * scratch.tile.stride, 0, A{1}, 1, scratch.tile.head_dim, &dv);
  }
}

}  // namespace

Procession::Procession(std::size_t tasks) : passed_(std::make_unique<std::atomic<std::int64_t>[]>(tasks)) {}

void Procession::wait(std::size_t task, std::int64_t tile, const Poll& poll) {
  constexpr int kSpins = 200;  // before the core is given to whoever holds us up
  std::size_t earlier = first_active_.load(std::memory_order_relaxed);
  for (int spins = 0; earlier < task;) {
    const std::int64_t passed = passed_[earlier].load(std::memory_order_acquire);
    if (passed > tile) {
      ++earlier;
      continue;
    }
    if (poll) poll();
    if (++spins > kSpins) std::this_thread::yield();
  }
  // Let later calls begin behind those that have left.
  std::size_t first = first_active_.load(std::memory_order_relaxed);
  while (first < task && passed_[first].load(std::memory_order_acquire) == kDone) {
    if (first_active_.compare_exchange_weak(first, first + 1, std::memory_order_acq_rel)) ++first;
  }
}

template <class T>
BackwardScratch<T>::BackwardScratch(const BackwardCall<T>& call)
    : memory({1, 1, elements(call.keys.front().k.shape.head_dim), 1}) {
  const std::int64_t head_dim = call.keys.front().k.shape.head_dim;
  A* next = memory.data();
  const auto take = [&next](std::int64_t count) { return std::exchange(next, next + count); };
  tile.head_dim = head_dim;
  tile.width = packed_width(head_dim);
  tile.stride = packed_stride(head_dim);
  tile.score_scale = static_cast<A>(kLog2E / std::sqrt(static_cast<double>(head_dim)));
  for (A** lanes : {&tile.query_lanes, &tile.d_o_lanes}) *lanes = take(head_dim * kBackwardLanes);
  for (A** rows : {&tile.query_rows, &tile.d_o_rows, &tile.dq_rows})
    *rows = take(tile.stride * kBackwardLanes);
  for (A** values : {&tile.lse, &tile.delta}) *values = take(kBackwardLanes);
  for (A** rows : {&keys.k, &keys.v, &keys.dk, &keys.dv})
    *rows = take(most_task_keys(head_dim) * tile.stride);
  for (A** scores : {&weights, &d_scores}) *scores = take(kBackwardKeys * kBackwardLanes);
  prepare_terms(call, *this);
}

template <class T>
std::int64_t BackwardScratch<T>::elements(std::int64_t head_dim) {
  const std::int64_t stride = packed_stride(head_dim);
  return (2 * head_dim + 3 * stride + 2) * kBackwardLanes + 4 * most_task_keys(head_dim) * stride +
         2 * kBackwardKeys * kBackwardLanes;
}

template <class T>
void run_task(BackwardCall<T>& call, const BackwardTask& task, BackwardScratch<T>& scratch,
              const Poll& poll) {
  const GradientKeys<T>& keys = call.keys[task.block];
  const std::int64_t group = call.group(), fold = call.fold;
  load_keys(keys, task, scratch);
  for (std::int64_t pass = 0; pass < group / fold; ++pass) {
    for (const std::size_t index : keys.queries) {
      const GradientQueries<T>& block = call.queries[index];
      const std::int64_t rows = block.positions.count * fold;
      const std::int64_t tiles = (rows + kBackwardLanes - 1) / kBackwardLanes;
      const Interval seeing = tiles_that_see(call, block, keys.positions.slice(task.keys), tiles);
      const auto rows_of_tile = [&](std::int64_t tile) {
        return FoldedRows{task.kv_head * group + pass,
                          fold,
                          {tile * kBackwardLanes, std::min((tile + 1) * kBackwardLanes, rows)}};
      };
      for (std::int64_t tile = seeing.begin; tile < seeing.end; ++tile) {
        if (poll) poll();
        const std::int64_t number = pass * call.first_tile.back() + call.first_tile[index] + tile;
        take_tile(call, task, block, rows_of_tile(tile), number, scratch, poll);
      }
    }
  }
  const std::size_t line = static_cast<std::size_t>(task.batch * keys.k.shape.heads + task.kv_head);
  call.by_batch_head[line].leave(task.place);
  store_keys(keys, task, scratch);
  add_term_gradients(call, task, scratch, poll);
}

#define LONGSEQ_INSTANTIATE(T)        \
  template struct BackwardScratch<T>; \
  template void run_task<T>(BackwardCall<T>&, const BackwardTask&, BackwardScratch<T>&, const Poll&);
LONGSEQ_INSTANTIATE(float)
LONGSEQ_INSTANTIATE(double)
LONGSEQ_INSTANTIATE(BFloat16)
#undef LONGSEQ_INSTANTIATE

}  // namespace longseq::detail
