// Is the output right? Query rows of the finished output are recomputed in f64, across ranks, by code that
// shares nothing with the engine, the patterns' intervals or the plans (measurement.md, "The verdict").
#pragma once

#include <mpi.h>

#include <cstdint>
#include <vector>

#include "kernels/attention.h"
#include "kernels/pattern.h"
#include "kernels/tensor.h"

namespace longseq {

/// What this rank holds of the inputs and outputs; `positions` of its rows, in their order.
template <class T>
struct ShardOutput {
  std::vector<Run> positions;
  TensorView<const T> q;
  TensorView<const T> k;
  TensorView<const T> v;
  TensorView<const T> o;
  TensorView<const Accumulator<T>> lse;
};

struct Errors {
  std::int64_t rows = 0;  // query positions that were recomputed
  // Root mean square over the recomputed rows and heads of ‖o − reference‖ / ‖reference‖: a row deep in a
  // causal sequence, whose numbers are small, counts as much as the first.
  double output = 0;
  double lse = 0;            // the largest |lse − reference| / max(1, |reference|)
  double largest_score = 0;  // |s| of the recomputed rows
  bool finite = true;        // no NaN or ∞ where none belongs, in the whole output
};

/// Collective. All query rows where that is cheap, else rows spread over the sequence, its ends among them.
template <class T>
Errors recompute(MPI_Comm comm, const Pattern& pattern, const PositionTerms<Accumulator<T>>& terms,
                 const ShardOutput<T>& shard);

/// The largest relative error that rounding explains, from the unit roundoff u of what is computed in,
/// head_dim, the number of keys and the size of the scores: u·(16 + √head_dim + log2 keys)·max(1,
/// largest_score/8). The three terms are exp2 and the decays, the dot product's random walk, and the sum over
/// keys; a score s is off by about u·|s|, which moves its weight by as much. At most 2.9e-6 for f32 at
/// head_dim 256 and 65,536 keys with scores of a few units.
double rounding_bound(double unit_roundoff, std::int64_t head_dim, std::int64_t keys, double largest_score);

struct Bounds {
  double output;
  double lse;
  double gradient;
};

/// rounding_bound(), for gradients four times that, since they are products of two such results; where
/// storage is bf16, and 2^-7 for what is rounded to it on the way, four roundings.
template <class T>
Bounds error_bounds(std::int64_t head_dim, std::int64_t keys, double largest_score);

}  // namespace longseq
