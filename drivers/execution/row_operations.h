// Row by row on tensors of accumulators: what happens between the tiles of a backward pass.
#pragma once

#include <algorithm>

#include "kernels/bfloat16.h"
#include "kernels/parallel_rows.h"

namespace longseq {

/// into += part.
template <class A>
void add_to(TensorView<A> into, TensorView<A> part) {
  parallel_rows(part.shape, [&](std::int64_t b, std::int64_t h, std::int64_t t) {
    A* sum = into.row(b, h, t);
    const A* own = part.row(b, h, t);
    for (std::int64_t d = 0; d < part.shape.head_dim; ++d) sum[d] += own[d];
  });
}

/// into = from, in Into's precision.
template <class Into, class A>
void copy_rows(TensorView<A> from, TensorView<Into> into) {
  parallel_rows(from.shape, [&](std::int64_t b, std::int64_t h, std::int64_t t) {
    std::transform(from.row(b, h, t), from.row(b, h, t) + from.shape.head_dim, into.row(b, h, t),
                   [](A value) { return static_cast<Into>(value); });
  });
}

}  // namespace longseq
