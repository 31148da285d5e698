// Where each buffer of a plan lies on this rank: own tensors, and one arena for everything else.
#pragma once

#include <cstddef>

#include "drivers/sharding/plan.h"
#include "kernels/attention_backward.h"
#include "kernels/bfloat16.h"
#include "kernels/tensor.h"

namespace longseq {

/// This rank's tensors, dense; the second half is read and written by a backward pass only. They must outlive
/// the executor, which binds its messages to them once.
template <class T>
struct ShardTensors {
  TensorView<const T> q;                    // (batch, heads, rows, head_dim)
  TensorView<const T> keys;                 // (2·batch, kv_heads, rows, head_dim): all of K, then all of V
  TensorView<T> o;                          // (batch, heads, rows, head_dim)
  TensorView<Accumulator<T>> lse;           // (batch, heads, rows, 1)
  TensorView<const T> d_o{};                // shaped as o
  TensorView<Accumulator<T>> dq{};          // shaped as q
  TensorView<Accumulator<T>> d_keys{};      // shaped as keys: dK, then dV
  TermGradients<Accumulator<T>> d_terms{};  // this rank's share
};

template <class T>
class PlanMemory {
 public:
  using A = Accumulator<T>;
  PlanMemory(const Problem& problem, const RankPlan& plan, const ShardTensors<T>& tensors);

  /// A buffer's first element.
  void* at(int buffer) const;
  /// (batch, heads, rows, width) of a buffer; of keys and their gradients, (2·batch, heads, rows, width).
  /// Element: T or A, whichever the payload is stored in. `heads` are of the payload's kind.
  template <class Element>
  TensorView<Element> view(int buffer, Interval heads) const;
  template <class Element>
  TensorView<Element> view(int buffer) const {
    return view<Element>(buffer, buffer_of(plan_, buffer).heads);
  }
  /// The outputs of partials, without their lse.
  TensorView<A> partial_outputs(int buffer) const;
  /// One of the columns of statistics, or the last of partials: width 1.
  TensorView<A> column(int buffer, Interval heads, std::int64_t column) const;

  /// The collective all-gather's receive buffer.
  void* arena() const { return const_cast<std::byte*>(arena_.data()); }

 private:
  const Problem& problem_;
  const RankPlan& plan_;
  ShardTensors<T> tensors_;
  Tensor<std::byte> arena_;
  Tensor<A> statistics_;  // own lse and delta, of a backward pass
};

/// The K and the V of a view of keys, or of their gradients.
template <class Element>
TensorView<Element> first_half(TensorView<Element> both) {
  both.shape.batch /= 2;
  return both;
}
template <class Element>
TensorView<Element> second_half(TensorView<Element> both) {
  both.shape.batch /= 2;
  both.data += both.shape.batch * both.batch_stride;
  return both;
}

}  // namespace longseq
