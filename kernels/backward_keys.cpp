#include "kernels/backward_keys.h"

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <utility>

#include "kernels/tiles/pairs.h"
#include "kernels/tiles/row_copy.h"

namespace longseq::detail {
namespace {

constexpr std::int64_t kTilesSummed = 128;

/// All of them, as pairs.
void load_pairs(const BackwardCall<BFloat16>& call, const BackwardTask& task,
                BackwardScratch<BFloat16>& scratch) {
  const GradientKeys<BFloat16>& keys = call.keys[task.block];
  const std::int64_t head_dim = scratch.tile.head_dim, stride = scratch.tile.stride, count = task.keys.size();
  const auto first_row = [&](const TensorView<const BFloat16>& view) {
    return view.row(task.batch, task.kv_head, task.keys.begin);
  };
  const bool matrix = call.products == PairProducts::matrix;
  const BackwardOperands<Pair>& pairs = scratch.pairs;
  const std::int64_t zeros = matrix ? kMatrixDepth : count % 2;  // rows beyond the last key
  for (const auto& [view, packed] : {std::pair(keys.k, pairs.k), std::pair(keys.v, pairs.v)}) {
    pack_rows(reinterpret_cast<const Pair*>(first_row(view)), view.token_stride / 2, count, head_dim / 2,
              packed, pairs.k_stride);
    std::fill_n(packed + count * pairs.k_stride, zeros * pairs.k_stride, Pair{});
  }
  if (matrix) {
    transpose_pairs(first_row(keys.k), keys.k.token_stride, count, head_dim,
                    reinterpret_cast<Pair*>(scratch.gradients.dk.rows), pairs.k_rows, pairs.k_rows_stride);
    scratch.gradients.dk.complete(count, stride);
    scratch.gradients.dv.complete(count, stride);
  } else {
    pair_rows(first_row(keys.k), keys.k.token_stride, count, head_dim, pairs.k_rows, stride);
  }
}

/// Rows of a key block into the operands' k and v.
template <class T>
void pack_keys(const GradientKeys<T>& keys, const BackwardTask& task, Interval rows,
               const BackwardTile<Accumulator<T>>& tile, const BackwardOperands<Accumulator<T>>& operands) {
  for (const auto& [view, packed] : {std::pair(keys.k, operands.k), std::pair(keys.v, operands.v)}) {
    pack_rows<T>(view.row(task.batch, task.kv_head, rows.begin), view.token_stride, rows.size(),
                 tile.head_dim, packed + (rows.begin - operands.origin) * tile.stride, tile.stride);
  }
}

/// Sums of rows of a key block, row `origin` first: they become the gradients of the rows `first`, and are
/// added to those of the others.
template <class T>
void give_gradients(const GradientKeys<T>& keys, const BackwardTask& task, Interval rows, std::int64_t origin,
                    const BackwardTile<Accumulator<T>>& tile, KeyGradients<Accumulator<T>>& gradients,
                    Interval first) {
  using A = Accumulator<T>;
  const auto give = [&](RowSums<A>& sums, const TensorView<A>& view, A factor) {
    sums.complete(rows.end - origin, tile.stride);
    const auto give_part = [&](Interval part, bool add) {
      give_rows(sums.rows + (part.begin - origin) * tile.stride, tile.stride, factor, part.size(),
                tile.head_dim, add, view.row(task.batch, task.kv_head, part.begin), view.token_stride);
    };
    const Interval set = intersect(rows, first);
    if (set.empty()) return give_part(rows, true);
    give_part({rows.begin, set.begin}, true);
    give_part(set, false);
    give_part({set.end, rows.end}, true);
  };
  give(gradients.dk, keys.dk, static_cast<A>(1.0 / std::sqrt(static_cast<double>(tile.head_dim))));
  give(gradients.dv, keys.dv, A{1});
}

/// The sums of the task's own keys before row `end` that have not all of theirs yet.
template <class T>
void give_loaded(const GradientKeys<T>& keys, const BackwardTask& task, std::int64_t end,
                 BackwardScratch<T>& scratch) {
  const Interval first{std::max(keys.first.begin, scratch.given_some), keys.first.end};
  give_gradients(keys, task, {scratch.given, end}, task.keys.begin, scratch.tile, scratch.gradients, first);
}

}  // namespace

template <class T>
void begin_keys(const BackwardTask& task, BackwardScratch<T>& scratch) {
  scratch.gradients.dk.held = scratch.gradients.dv.held = 0;
  scratch.guest_gradients.dk.held = scratch.guest_gradients.dv.held = 0;
  scratch.operands.origin = scratch.pairs.origin = task.keys.begin;
  scratch.loaded = scratch.given = scratch.given_some = task.keys.begin;
  scratch.part = -1;
}

template <class T>
void ask_for_keys(const BackwardCall<T>& call, const BackwardTask& task, BackwardScratch<T>& scratch) {
  const GradientKeys<T>& keys = call.keys[task.block];
  const auto ask = [&](const auto& view, std::int64_t begin) {
    scratch.tile.coming.add(view, task.batch, task.kv_head,
                            {begin, std::min(begin + kBackwardKeys, task.keys.end)});
  };
  ask(keys.k, scratch.loaded);
  ask(keys.v, scratch.loaded);
}

template <class T>
void load_keys(const BackwardCall<T>& call, const BackwardTask& task, std::int64_t end,
               BackwardScratch<T>& scratch) {
  if (std::min(end, task.keys.end) <= scratch.loaded) return;  // of pairs, one may lie beyond the last
  if constexpr (std::is_same_v<T, BFloat16>) {
    if (call.products != PairProducts::none) {
      scratch.loaded = task.keys.end;
      return load_pairs(call, task, scratch);
    }
  }
  // Whole pieces.
  const std::int64_t begin = scratch.loaded;
  scratch.loaded =
      std::min(task.keys.begin + (end - task.keys.begin + kBackwardKeys - 1) / kBackwardKeys * kBackwardKeys,
               task.keys.end);
  pack_keys(call.keys[task.block], task, {begin, scratch.loaded}, scratch.tile, scratch.operands);
  ask_for_keys(call, task, scratch);
}

template <class T>
void store_keys(const BackwardCall<T>& call, const BackwardTask& task, std::int64_t end,
                BackwardScratch<T>& scratch) {
  if (end <= scratch.given) return;
  const GradientKeys<T>& keys = call.keys[task.block];
  give_loaded(keys, task, end, scratch);
  scratch.given = end;
  const Interval next{end, std::min(end + kBackwardLanes, task.keys.end)};
  scratch.tile.coming.add(keys.dk, task.batch, task.kv_head, next);
  scratch.tile.coming.add(keys.dv, task.batch, task.kv_head, next);
}

template <class T>
void limit_sums(const BackwardCall<T>& call, const BackwardTask& task, std::int64_t number,
                BackwardScratch<T>& scratch) {
  const std::int64_t part = number / kTilesSummed, before = std::exchange(scratch.part, part);
  if (part == before || before < 0 || call.products != PairProducts::none) return;
  give_loaded(call.keys[task.block], task, scratch.loaded, scratch);
  scratch.given_some = scratch.loaded;
  scratch.gradients.dk.held = scratch.gradients.dv.held = 0;
}

template <class T>
void load_guests(const BackwardCall<T>& call, const BackwardTask& task, BackwardScratch<T>& scratch) {
  BackwardOperands<Accumulator<T>>& own = scratch.guest_operands;
  if (scratch.guest_gradients.dv.held == 0)
    pack_keys(call.keys[call.guests.block], task, call.guests.keys, scratch.tile, own);
}

template <class T>
void store_guests(BackwardCall<T>& call, const BackwardTask& task, BackwardScratch<T>& scratch,
                  const Poll& poll) {
  const Interval rows = call.guests.keys;
  if (scratch.guest_gradients.dv.held == 0) return;
  call.procession(task.batch, task.kv_head).wait(task.place, poll);
  give_gradients(call.keys[call.guests.block], task, rows, rows.begin, scratch.tile, scratch.guest_gradients,
                 {});
}

#define LONGSEQ_INSTANTIATE(T)                                                                     \
  template void begin_keys<T>(const BackwardTask&, BackwardScratch<T>&);                           \
  template void ask_for_keys<T>(const BackwardCall<T>&, const BackwardTask&, BackwardScratch<T>&); \
  template void load_keys<T>(const BackwardCall<T>&, const BackwardTask&, std::int64_t,            \
                             BackwardScratch<T>&);                                                 \
  template void store_keys<T>(const BackwardCall<T>&, const BackwardTask&, std::int64_t,           \
                              BackwardScratch<T>&);                                                \
  template void limit_sums<T>(const BackwardCall<T>&, const BackwardTask&, std::int64_t,           \
                              BackwardScratch<T>&);                                                \
  template void load_guests<T>(const BackwardCall<T>&, const BackwardTask&, BackwardScratch<T>&);  \
  template void store_guests<T>(BackwardCall<T>&, const BackwardTask&, BackwardScratch<T>&, const Poll&);
LONGSEQ_INSTANTIATE(float)
LONGSEQ_INSTANTIATE(double)
LONGSEQ_INSTANTIATE(BFloat16)
#undef LONGSEQ_INSTANTIATE

}  // namespace longseq::detail
