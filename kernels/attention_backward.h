// Backward attention on one node: the gradients of attention.h's forward pass, recomputed from lse (maths.md,
// section 1; Dao et al. 2022, algorithm 4).
//
//   p_ij = exp(s_ij − lse_i),  dS_ij = p_ij · (do_i·v_j − delta_i),  delta_i = do_i·o_i,
//   dq_i = c · Σ_j dS_ij (k_j + r_h(i − j)),  dk_j = c · Σ_i dS_ij (q_i + u_h),  dv_j = Σ_i p_ij do_i,
//   db_h(n) = Σ_{i−j = n} dS_ij,  dr_h(n) = c · Σ_{i−j = n} dS_ij (q_i + v_h),
//   du_h = c · Σ_ij dS_ij k_j,  dv_h = c · Σ_ij dS_ij r_h(i − j)
//
// A call adds to gradients that lie in the caller's memory, or is the first to write them, so that a step of
// a ring is one call; it needs q, k, v, do, and the lse and delta of the whole softmax. Sums are made in
// Accumulator<T>, in an order that does not depend on the number of threads: results are the same, bit for
// bit, run after run, on machines alike.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "kernels/attention.h"

namespace longseq {

/// Query rows of a backward pass. q, d_o (the gradient of o), dq: (batch, heads, queries, head_dim); lse,
/// delta: head_dim = 1. Rows of dq must not be shared between query blocks.
template <class T>
struct GradientQueries {
  TensorView<const T> q;
  TensorView<const T> d_o;
  TensorView<const Accumulator<T>> lse;
  TensorView<const Accumulator<T>> delta;
  Run positions;
  TensorView<Accumulator<T>> dq;
  bool first = false;  // dq is written, not added to what is there
};

/// Key rows of a backward pass and the query blocks, by their number, ascending, whose gradients they take
/// part in. k, v, dk, dv: (batch, kv_heads, keys, head_dim). Rows of dk and dv must not be shared between key
/// blocks.
template <class T>
struct GradientKeys {
  TensorView<const T> k;
  TensorView<const T> v;
  Run positions;
  TensorView<Accumulator<T>> dk;
  TensorView<Accumulator<T>> dv;
  std::vector<std::size_t> queries;
  Interval first{};  // rows of dk and dv that are written; the others are added to what is there
};

/// The gradients of position terms; null where they are not wanted. Summed over the batch.
template <class A>
struct TermGradients {
  A* bias = nullptr;           // shaped as DistanceBias::values
  TensorView<A> r{};           // shaped as RelativeKeys::r
  A* content_bias = nullptr;   // shaped as RelativeKeys::content_bias; null where r is
  A* position_bias = nullptr;  // the same

  /// Those of some of the heads of `terms`.
  TermGradients of_heads(Interval heads, const PositionTerms<A>& terms) const {
    TermGradients own = *this;
    if (bias != nullptr) own.bias += heads.begin * terms.bias.row_size();
    if (r.data == nullptr) return own;
    own.r = r.heads(heads);
    own.content_bias += heads.begin * r.shape.head_dim;
    own.position_bias += heads.begin * r.shape.head_dim;
    return own;
  }
};

/// delta_i = Σ_d do_id·o_id, (batch, heads, queries, 1), from o and d_o, (batch, heads, queries, head_dim).
template <class T>
void attention_delta(TensorView<const T> o, TensorView<const T> d_o, TensorView<Accumulator<T>> delta);

/// Adds the gradients of every key block and of its query blocks to dq, dk, dv and `gradients`. Runs in the
/// caller's TBB arena. Throws std::invalid_argument if head_dim is not in [1, kMaxHeadDim] or a key block's
/// queries do not ascend.
template <class T>
void attend_backward(const Pattern& pattern, const PositionTerms<Accumulator<T>>& terms,
                     std::span<const GradientQueries<T>> queries, std::span<const GradientKeys<T>> keys,
                     const TermGradients<Accumulator<T>>& gradients = {}, const Poll& poll = {});

/// The gradients of a whole sequence's attention, written: dq shaped as q; dk, dv as k.
template <class A>
struct InputGradients {
  TensorView<A> dq;
  TensorView<A> dk;
  TensorView<A> dv;
};

/// The gradients of attention_forward() in one call, from its inputs and results and from d_o. Beside them it
/// holds delta, (batch, heads, queries, 1). `gradients` are added to.
template <class T>
void attention_backward(const Pattern& pattern, const PositionTerms<Accumulator<T>>& terms,
                        const AttentionInputs<T>& inputs, TensorView<const T> o,
                        TensorView<const Accumulator<T>> lse, TensorView<const T> d_o,
                        const InputGradients<Accumulator<T>>& out,
                        const TermGradients<Accumulator<T>>& gradients = {});

/// Bytes of scratch that each thread of attend_backward() takes, at most; with gradients of position terms,
/// as many again as theirs for the heads of one key head (of r: attention_r_gradient_bytes()).
template <class T>
std::int64_t attention_backward_scratch_bytes(std::int64_t head_dim, bool relative = false);

/// Bytes of each thread's share of the gradient of r, at most: of `heads` query heads that share a key head.
template <class A>
std::int64_t attention_r_gradient_bytes(std::int64_t heads, std::int64_t distances, std::int64_t head_dim);

}  // namespace longseq
