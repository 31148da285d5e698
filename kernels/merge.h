// Joining finished partial results of the same queries over different keys (maths.md, section 1).
#pragma once

#include "kernels/tensor.h"

namespace longseq {

/// (o, lse) takes in (part_o, part_lse), the attention of the same queries over other keys:
///   lse = max + log1p(exp(−|lse − part_lse|)),  o = o − sigmoid(part_lse − lse)·(o − part_o).
/// o: (batch, heads, queries, head_dim), lse: head_dim = 1. A side that saw no key (lse = −∞) yields to the
/// other.
template <class T>
void merge_attention(TensorView<T> o, TensorView<T> lse, TensorView<const T> part_o,
                     TensorView<const T> part_lse);

}  // namespace longseq
