#include "kernels/backward_task.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <type_traits>
#include <utility>

#include "kernels/backward_keys.h"
#include "kernels/backward_terms.h"
#include "kernels/tiles/pairs.h"
#include "kernels/tiles/row_copy.h"

namespace longseq::detail {
namespace {

/// Rows to lanes, in blocks.
template <class T>
void load_lanes(const std::array<const T*, kBackwardLanes>& rows, std::int64_t count, std::int64_t head_dim,
                Accumulator<T>* lanes) {
  for (std::int64_t first = 0; first < kBackwardLanes; first += kLaneBlock) {
    rows_to_lanes<T>(rows.data() + first, std::clamp<std::int64_t>(count - first, 0, kLaneBlock), head_dim,
                     lanes + first * head_dim, kLaneBlock);
  }
}

/// Whether products can read the tile's rows where they lie: all of them are there, dense, and no row ends
/// within a vector.
template <class T>
bool lie_ready(const TensorView<const T>& view, const FoldedRows& queries) {
  return queries.fold == 1 && queries.rows.size() == kBackwardLanes &&
         view.token_stride == view.shape.head_dim && view.shape.head_dim % kLaneGroup == 0;
}

template <class T>
PlacedRows<Accumulator<T>> place_rows(const std::array<const T*, kBackwardLanes>& rows, std::int64_t count,
                                      std::int64_t head_dim, std::int64_t stride, Accumulator<T>* packed) {
  for (std::int64_t t = 0; t < count; ++t)
    pack_rows<T>(rows[static_cast<std::size_t>(t)], 0, 1, head_dim, packed + t * stride, stride);
  std::fill(packed + count * stride, packed + kBackwardLanes * stride, Accumulator<T>{0});
  return {packed, stride};
}

/// The same as pairs.
PlacedRows<Pair> place_pairs(const std::array<const BFloat16*, kBackwardLanes>& rows, std::int64_t count,
                             std::int64_t head_dim, std::int64_t stride, Pair* packed) {
  pair_rows(rows.data(), count, head_dim, packed, stride);
  std::fill(packed + (count + 1) / 2 * stride, packed + kBackwardLanes / 2 * stride, Pair{});
  return {packed, stride};
}

/// Fills lanes; gives the rows, packed if they are to be changed.
template <class T, class E>
PlacedRows<E> load_rows(const TensorView<const T>& view, std::int64_t batch, const FoldedRows& queries,
                        bool change, std::int64_t stride, E* lanes, E* packed) {
  const auto rows = rows_of<kBackwardLanes>(view, batch, queries);
  const std::int64_t count = queries.rows.size(), head_dim = view.shape.head_dim;
  if constexpr (std::is_same_v<E, Pair>) {
    std::array<const Pair*, kBackwardLanes> pairs;
    std::transform(rows.begin(), rows.begin() + count, pairs.begin(),
                   [](const BFloat16* row) { return reinterpret_cast<const Pair*>(row); });
    load_lanes<Pair>(pairs, count, head_dim / 2, lanes);
    return place_pairs(rows, count, head_dim, stride, packed);
  } else {
    load_lanes<T>(rows, count, head_dim, lanes);
    if constexpr (std::is_same_v<T, E>) {
      if (!change && lie_ready(view, queries)) return {rows[0], view.token_stride};
    }
    return place_rows<T>(rows, count, head_dim, stride, packed);
  }
}

template <class T>
void load_tile(const BackwardCall<T>& call, const GradientQueries<T>& block, const BackwardTask& task,
               const FoldedRows& queries, BackwardScratch<T>& scratch) {
  using A = Accumulator<T>;
  BackwardTile<A>& tile = scratch.tile;
  const auto load = [&](auto& operands) {
    operands.queries = load_rows(block.q, task.batch, queries, call.terms.relative.present(), tile.stride,
                                 operands.query_lanes, operands.query_rows);
    operands.d_o =
        load_rows(block.d_o, task.batch, queries, false, tile.stride, operands.d_o_lanes, operands.d_o_rows);
  };
  if constexpr (!std::is_same_v<T, A>) {
    if (call.products != PairProducts::none) load(scratch.pairs);
  }
  if (call.products == PairProducts::none) {
    load(scratch.operands);
    scratch.guest_operands.queries = scratch.operands.queries;
    scratch.guest_operands.d_o = scratch.operands.d_o;
  }
  if (call.terms.relative.present()) {
    add_query_biases(call, queries, scratch);
  }
  if (call.products == PairProducts::matrix) {
    std::fill_n(tile.dq_lanes, tile.head_dim * kBackwardLanes, A{0});
  } else {
    tile.dq.held = 0;
  }
  alignas(64) A lse[kBackwardLanes]{};
  std::fill_n(tile.delta, kBackwardLanes, A{0});
  queries.for_each([&](std::int64_t t, std::int64_t head, std::int64_t token) {
    lse[t] = *block.lse.row(task.batch, head, token);
    tile.delta[t] = *block.delta.row(task.batch, head, token);
  });
  split_lse(lse, tile);
}

/// The tiles of a pass over a query block that may see the keys, in two intervals: all that do lie within.
template <class T>
std::array<Interval, 2> tiles_that_see(const BackwardCall<T>& call, const GradientQueries<T>& block, Run keys,
                                       std::int64_t tiles) {
  // The rows that see everything come first: their tiles all take part; those after them rise.
  const std::int64_t g = call.pattern.kind == PatternKind::global ? call.pattern.global_tokens : 0;
  if (keys.start < g) return {Interval{0, tiles}, Interval{}};
  const std::int64_t first = block.positions.rows_before(g);
  const Interval rising =
      call.pattern.rows_that_see(block.positions.slice({first, block.positions.count}), keys);
  const std::int64_t leading = tiles_before(first * call.fold);
  return {Interval{0, leading},
          {std::max(leading, (first + rising.begin) * call.fold / kBackwardLanes),
           tiles_before((first + rising.end) * call.fold)}};
}

/// The pieces of the task's keys that the tile sees, after those of its guests.
struct Pieces {
  std::array<Piece, kMostTaskPieces + 1> pieces;
  std::size_t count = 0;
  std::size_t guests = 0;
};

void cut_all(const Outlook& outlook, Interval keys, std::int64_t granule, Pieces& all) {
  for (std::int64_t begin = keys.begin; begin < keys.end; begin += kBackwardKeys) {
    const Interval most{begin, std::min(begin + kBackwardKeys, keys.end)};
    if (cut(outlook, most, granule, all.pieces[all.count])) ++all.count;
  }
}

template <class T>
void take_pieces(BackwardCall<T>& call, const BackwardTask& task, const GradientQueries<T>& block,
                 const FoldedRows& queries, const Pieces& all, BackwardScratch<T>& scratch) {
  using A = Accumulator<T>;
  const Run positions = call.keys[task.block].positions;
  const TileBias<A> bias{call.terms.bias.values, static_cast<Index<A>>(call.terms.bias.reach),
                         static_cast<Index<A>>(positions.stride)};
  const bool relative = call.terms.relative.present();
  for (std::size_t number = 0; number < all.count; ++number) {
    const Piece& piece = all.pieces[number];
    const bool guests = number < all.guests;
    guests ? load_guests(call, task, scratch) : load_keys(call, task, piece.keys.end, scratch);
    if constexpr (std::is_same_v<T, BFloat16>) {
      if (call.products != PairProducts::none) {
        const auto take =
            call.products == PairProducts::matrix ? backward_tile_by_matrix : backward_tile_by_pairs;
        take(scratch.tile, scratch.pairs, scratch.gradients, piece, bias, scratch.scores,
             scratch.pair_scores);
      }
    }
    if (relative) score_relative(call, block.positions, positions, queries, piece, scratch);
    if (call.products == PairProducts::none) {
      backward_tile(scratch.tile, guests ? scratch.guest_operands : scratch.operands,
                    guests ? scratch.guest_gradients : scratch.gradients, piece, bias, relative,
                    scratch.scores);
    }
    if (call.gradients.bias != nullptr) add_bias_gradient(call, positions, piece, scratch);
    if (relative) add_relative_gradients(call, block.positions, positions, queries, piece, scratch);
  }
}

/// A tile of queries that the task meets.
template <class T>
struct Meeting {
  const GradientQueries<T>& block;
  FoldedRows queries;
  FoldedRows next;      // the rows of the next tile
  std::int64_t number;  // in the procession
  bool last_round;      // no later tile sees keys before those that this one sees, which begin at the first
                        // where tiles do not rise
  bool with_guests;
};

/// Asks for the tile's dq, for keys that are still to come and for the rows of the next tile.
template <class T>
void ask_for(const BackwardCall<T>& call, const BackwardTask& task, const Meeting<T>& meeting,
             BackwardScratch<T>& scratch) {
  Coming& coming = scratch.tile.coming;
  coming.clear();
  coming.add(meeting.block.dq, task.batch, meeting.queries);
  ask_for_keys(call, task, scratch);
  coming.add(meeting.block.q, task.batch, meeting.next);
  coming.add(meeting.block.d_o, task.batch, meeting.next);
}

/// One tile of queries against the task's keys; then its dq, when it is the task's turn.
template <class T>
void take_tile(BackwardCall<T>& call, const BackwardTask& task, const Meeting<T>& meeting,
               BackwardScratch<T>& scratch, const Poll& poll) {
  using A = Accumulator<T>;
  const auto& [block, queries, next, number, last_round, with_guests] = meeting;
  BackwardTile<A>& tile = scratch.tile;
  const GradientKeys<T>& keys = call.keys[task.block];
  Outlook outlook;
  look(call.pattern, block.positions, queries, keys.positions, kBackwardLanes, tile.lanes, outlook);
  const std::int64_t granule = call.products == PairProducts::none ? 1 : 2;
  Pieces pieces;
  if (with_guests) cut_all(outlook, call.guests.keys, granule, pieces);
  pieces.guests = pieces.count;
  cut_all(outlook, task.keys, granule, pieces);
  if (pieces.count == 0) return;
  if (call.terms.bias.values != nullptr) find_tables(queries, call.terms.bias, tile.lanes);
  load_tile(call, block, task, queries, scratch);
  ask_for(call, task, meeting, scratch);
  if (last_round) store_keys(call, task, pieces.pieces[pieces.guests].keys.begin, scratch);
  limit_sums(call, task, number, scratch);
  take_pieces(call, task, block, queries, pieces, scratch);
  if (call.products == PairProducts::matrix) {
    std::array<A*, kBackwardLanes> rows;
    for (std::size_t t = 0; t < rows.size(); ++t)
      rows[t] = tile.dq.rows + static_cast<std::int64_t>(t) * tile.stride;
    lanes_to_rows<A>(tile.dq_lanes, kBackwardLanes, kBackwardLanes, tile.head_dim, nullptr, rows.data());
  } else {
    tile.dq.complete(kBackwardLanes, tile.stride);
  }
  Procession& procession = call.procession(task.batch, task.kv_head);
  if (call.terms.relative.present()) join_query_gradients(call, queries, scratch);
  procession.pass(task.place, number);
  procession.wait(task.place, number, poll);
  const A factor = static_cast<A>(1.0 / std::sqrt(static_cast<double>(tile.head_dim)));
  give_rows(tile.dq.rows, tile.stride, factor, queries.rows.size(), tile.head_dim,
            !procession.first_at(number) || !block.first,
            rows_of<kBackwardLanes>(block.dq, task.batch, queries).data());
  procession.pass(task.place, number + 1);
}

/// Elements of f32 that the keys, values and gradients of a task may take each; of f64 they fill twice that.
std::int64_t most_task_elements() {
  constexpr std::int64_t kBytes = 740'000;  // of a cache of 1 MiB
#ifdef _SC_LEVEL2_CACHE_SIZE
  static const bool roomy = sysconf(_SC_LEVEL2_CACHE_SIZE) >= 2 * 1024 * 1024;
  if (roomy) return 2 * kBytes / 4 / 4;
#endif
  return kBytes / 4 / 4;
}

}  // namespace

std::int64_t most_task_keys(std::int64_t head_dim) {
  return kBackwardKeys *
         std::clamp<std::int64_t>(most_task_elements() / (kBackwardKeys * packed_stride(head_dim)), 1,
                                  kMostTaskPieces);
}

/// Rows of gradients that the matrix unit may write beyond the last key.
template <class T>
constexpr std::int64_t beyond() {
  return std::is_same_v<T, Accumulator<T>> ? 0 : kMatrixSide;
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
  for (A** lanes : {&operands.query_lanes, &operands.d_o_lanes}) *lanes = take(head_dim * kBackwardLanes);
  for (A** rows : {&operands.query_rows, &operands.d_o_rows, &tile.dq.rows})
    *rows = take(tile.stride * kBackwardLanes);
  for (A** values : {&tile.lse_whole, &tile.lse_factor, &tile.lse_lowest, &tile.lse_shift, &tile.delta})
    *values = take(kBackwardLanes);
  const std::int64_t key_elements = most_task_keys(head_dim) * tile.stride;
  for (A** rows : {&operands.k, &operands.v}) *rows = take(key_elements);
  for (A** rows : {&gradients.dk.rows, &gradients.dv.rows})
    *rows = take(key_elements + beyond<T>() * tile.stride);
  tile.dq_lanes = nullptr;
  operands.k_rows = operands.k;
  operands.k_stride = operands.k_rows_stride = tile.stride;
  guest_operands = operands;
  guest_operands.origin = call.guests.keys.begin;
  for (A** rows : {&guest_operands.k, &guest_operands.v, &guest_gradients.dk.rows, &guest_gradients.dv.rows})
    *rows = take(kBackwardKeys * tile.stride);
  guest_operands.k_rows = guest_operands.k;
  for (A** values : {&scores.weights, &scores.d_scores}) *values = take(kBackwardKeys * kBackwardLanes);
  pair_scores = {};
  if constexpr (!std::is_same_v<T, A>) {
    const auto as_pairs = [](A* own) { return reinterpret_cast<Pair*>(own); };
    pairs = {as_pairs(operands.query_lanes),
             as_pairs(operands.d_o_lanes),
             as_pairs(operands.query_rows),
             as_pairs(operands.d_o_rows),
             as_pairs(operands.k),
             as_pairs(operands.v),
             as_pairs(operands.k) + key_elements / 2,
             tile.stride / 2,
             tile.stride,
             0};
    if (call.products == PairProducts::matrix) {  // one after the other, in the same memory
      const std::int64_t keys = most_task_keys(head_dim);
      pairs.k_stride = head_dim / 2;
      pairs.v = pairs.k + (keys + kMatrixDepth) * pairs.k_stride;
      pairs.k_rows = pairs.v + (keys + kMatrixDepth) * pairs.k_stride;
      pairs.k_rows_stride = keys / 2 + kMatrixSide;
    }
    tile.dq_lanes = take(head_dim * kBackwardLanes);
    for (Pair** values : {&pair_scores.weights, &pair_scores.d_scores, &pair_scores.d_scores_keys})
      *values = as_pairs(take(kBackwardKeys * kBackwardLanes / 2));
  }
  prepare_terms(call, *this);
}

template <class T>
std::int64_t BackwardScratch<T>::elements(std::int64_t head_dim) {
  const std::int64_t stride = packed_stride(head_dim);
  return (2 * head_dim + 3 * stride + 5) * kBackwardLanes +
         4 * (most_task_keys(head_dim) + kBackwardKeys) * stride + 2 * kBackwardKeys * kBackwardLanes +
         2 * beyond<T>() * stride +
         (std::is_same_v<T, A> ? 0 : (3 * kBackwardKeys / 2 + head_dim) * kBackwardLanes);
}

template <class T>
void run_task(BackwardCall<T>& call, const BackwardTask& task, BackwardScratch<T>& scratch,
              const Poll& poll) {
  const GradientKeys<T>& keys = call.keys[task.block];
  const bool owns_guests =
      call.guests.invited() && task.block == call.guests.block && task.keys.contains(call.guests.keys.begin);
  const MatrixUnit matrix_unit(call.products == PairProducts::matrix);
  begin_keys(task, scratch);
  for (std::int64_t pass = 0; pass < call.passes(); ++pass) {
    for (const std::size_t index : keys.queries) {
      const bool last_block = pass + 1 == call.passes() && index == keys.queries.back();
      const auto rows = [&](std::int64_t tile) { return call.rows(index, task.kv_head, pass, tile); };
      const auto [leading, rising] =
          tiles_that_see(call, call.queries[index], keys.positions.slice(task.keys), call.tiles(index));
      const auto is_hosted = [&](std::int64_t tile) {
        return owns_guests && tile < call.tiles(index) && call.host(index, tile) != Guests::kNoHost;
      };
      for (const Interval& seeing : {leading, rising}) {
        for (std::int64_t tile = seeing.begin; tile < seeing.end; ++tile) {
          if (is_hosted(tile)) continue;
          if (poll) poll();
          take_tile(
              call, task,
              Meeting<T>{call.queries[index], rows(tile), is_hosted(tile + 1) ? FoldedRows{} : rows(tile + 1),
                         call.tile_number(pass, index, tile), last_block && tile >= rising.begin,
                         call.host(index, tile) == task.place},
              scratch, poll);
        }
      }
    }
  }
  store_keys(call, task, task.keys.end, scratch);
  store_guests(call, task, scratch, poll);
  call.procession(task.batch, task.kv_head).leave(task.place);
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
