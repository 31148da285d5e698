// Are the gradients right? Rows of dq, dk and dv are recomputed in f64 across ranks, as verify.h does for o.
#pragma once

#include "suite/verify.h"

namespace longseq {

/// What this rank holds of a backward pass: the forward pass's, and this.
template <class T>
struct ShardGradients {
  TensorView<const T> d_o;
  TensorView<const Accumulator<T>> dq;
  TensorView<const Accumulator<T>> dk;
  TensorView<const Accumulator<T>> dv;
};

struct GradientErrors {
  // Root mean square over the recomputed rows and heads of ‖dq − reference‖ / ‖reference‖; rows in which most
  // cancels (a first query, which sees one key, has dq = 0) count with the size of the term with delta that
  // does.
  double dq = 0;
  double dk = 0;
  double dv = 0;
  bool finite = true;  // no NaN or ∞ in any of them
};

/// Collective. Of the sampled positions, dq from scratch, dk and dv from the verified o and lse of all
/// queries.
template <class T>
GradientErrors recompute_gradients(MPI_Comm comm, const Pattern& pattern,
                                   const PositionTerms<Accumulator<T>>& terms, const ShardOutput<T>& shard,
                                   const ShardGradients<T>& gradients);

}  // namespace longseq
