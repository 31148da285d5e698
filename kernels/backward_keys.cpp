#include "kernels/backward_keys.h"

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <utility>

#include "kernels/tiles/pairs.h"
#include "kernels/tiles/row_copy.h"

namespace longseq::detail {
namespace {

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

}  // namespace

template <class T>
void begin_keys(const BackwardTask& task, BackwardScratch<T>& scratch) {
  scratch.gradients.dk.held = scratch.gradients.dv.held = 0;
  scratch.operands.origin = scratch.pairs.origin = task.keys.begin;
  scratch.loaded = scratch.given = task.keys.begin;
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
  const std::int64_t begin = scratch.loaded, stride = scratch.tile.stride;
  scratch.loaded =
      std::min(task.keys.begin + (end - task.keys.begin + kBackwardKeys - 1) / kBackwardKeys * kBackwardKeys,
               task.keys.end);
  const GradientKeys<T>& keys = call.keys[task.block];
  for (const auto& [view, packed] :
       {std::pair(keys.k, scratch.operands.k), std::pair(keys.v, scratch.operands.v)}) {
    pack_rows<T>(view.row(task.batch, task.kv_head, begin), view.token_stride, scratch.loaded - begin,
                 scratch.tile.head_dim, packed + (begin - task.keys.begin) * stride, stride);
  }
  ask_for_keys(call, task, scratch);
}

template <class T>
void store_keys(const BackwardCall<T>& call, const BackwardTask& task, std::int64_t end,
                BackwardScratch<T>& scratch) {
  using A = Accumulator<T>;
  const GradientKeys<T>& keys = call.keys[task.block];
  const std::int64_t head_dim = scratch.tile.head_dim, stride = scratch.tile.stride;
  const auto give = [&](RowSums<A>& sums, const TensorView<A>& view, A factor) {
    sums.complete(end - task.keys.begin, stride);
    for (std::int64_t key = scratch.given; key < end; ++key) {
      A* row = view.row(task.batch, task.kv_head, key);
      give_rows(sums.rows + (key - task.keys.begin) * stride, 0, factor, 1, head_dim, !keys.first, &row);
    }
  };
  if (scratch.given < end) {
    give(scratch.gradients.dk, keys.dk, static_cast<A>(1.0 / std::sqrt(static_cast<double>(head_dim))));
    give(scratch.gradients.dv, keys.dv, A{1});
    scratch.given = end;
  }
  const Interval next{end, std::min(end + kBackwardLanes, task.keys.end)};
  scratch.tile.coming.add(keys.dk, task.batch, task.kv_head, next);
  scratch.tile.coming.add(keys.dv, task.batch, task.kv_head, next);
}

#define LONGSEQ_INSTANTIATE(T)                                                                     \
  template void begin_keys<T>(const BackwardTask&, BackwardScratch<T>&);                           \
  template void ask_for_keys<T>(const BackwardCall<T>&, const BackwardTask&, BackwardScratch<T>&); \
  template void load_keys<T>(const BackwardCall<T>&, const BackwardTask&, std::int64_t,            \
                             BackwardScratch<T>&);                                                 \
  template void store_keys<T>(const BackwardCall<T>&, const BackwardTask&, std::int64_t, BackwardScratch<T>&);
LONGSEQ_INSTANTIATE(float)
LONGSEQ_INSTANTIATE(double)
LONGSEQ_INSTANTIATE(BFloat16)
#undef LONGSEQ_INSTANTIATE

}  // namespace longseq::detail
