// The q, k and v of a case on one rank: synthetic tensors, or a real text's tokens through an attention
// layer's embedding, position encoding and projections. The same numbers for every number of ranks and every
// layout.
#pragma once

#include <filesystem>
#include <vector>

#include "drivers/position_terms.h"
#include "drivers/sharding/plan.h"
#include "kernels/attention.h"
#include "suite/case.h"

namespace longseq {

template <class T>
struct LayerInputs {
  using A = Accumulator<T>;
  Tensor<T> q;     // (batch, heads, rows, head_dim)
  Tensor<T> keys;  // (2·batch, kv_heads, rows, head_dim): all of K, then all of V
  Tensor<T> d_o;   // shaped as q; empty in a forward pass
  PositionParameters<A> position;
  double projection_time = 0;  // s for the q, k and v of all rows, median of several; 0 for synthetic tensors

  TensorView<T> k();
  TensorView<T> v();
};

/// The inputs in T, from those in its accumulator: as they are, or rounded.
template <class T>
LayerInputs<T> in_storage(LayerInputs<Accumulator<T>> inputs);

/// Throws std::invalid_argument if the case's corpus is shorter than batch · seq_len tokens, and what
/// open_corpus throws.
void expect_corpus(const Case& c, const std::filesystem::path& data_dir);

/// Throws as expect_corpus does. T: float or double. Runs in the caller's TBB arena.
template <class T>
LayerInputs<T> make_inputs(const Case& c, const Pattern& pattern, const Shard& shard,
                           const std::filesystem::path& data_dir);

/// Rotates q and k, or makes the position terms of their parameters, as the case's position term says.
template <class T>
void apply_position(const Case& c, const Pattern& pattern, const Shard& shard, LayerInputs<T>& inputs);

/// The gradients of q and k as they were before apply_position(), in place.
template <class A>
void undo_position(const Case& c, const Shard& shard, TensorView<A> dq, TensorView<A> dk);

/// $LONGSEQ_DATA, or ./data.
std::filesystem::path default_data_dir();

}  // namespace longseq
