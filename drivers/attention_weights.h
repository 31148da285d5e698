// The attention weights themselves, for looking at: S² numbers, so only for short sequences.
#pragma once

#include <mpi.h>

#include "drivers/sharding/plan.h"
#include "kernels/attention.h"

namespace longseq {

/// weights[b, h, i, ·] = softmax of the scores of this rank's query row i over all S keys, 0 where i does not
/// see j; in f64 from all ranks' keys. q (batch, heads, rows, head_dim), k (batch, kv_heads, rows, head_dim),
/// weights (batch, heads, rows, S). Collective.
template <class T>
void attention_weights(MPI_Comm comm, const Problem& problem, const PositionTerms<Accumulator<T>>& terms,
                       TensorView<const T> q, TensorView<const T> k, TensorView<Accumulator<T>> weights);

}  // namespace longseq
