#include "drivers/execution/memory.h"

namespace longseq {

template <class T>
PlanMemory<T>::PlanMemory(const Problem& problem, const RankPlan& plan, const ShardTensors<T>& tensors)
    : problem_(problem), plan_(plan), tensors_(tensors), arena_({1, 1, 1, plan.arena_bytes}) {
  if (problem.pass == Pass::backward)
    statistics_ = Tensor<A>({problem.batch, problem.heads, tensors.q.shape.tokens, 2});
}

template <class T>
void* PlanMemory<T>::at(int buffer) const {
  // MPI's and the kernels' signatures differ in const; inputs are only ever read.
  switch (buffer) {
    case kOwnKeys:
      return const_cast<T*>(tensors_.keys.data);
    case kOwnQueries:
      return const_cast<T*>(tensors_.q.data);
    case kOwnOutputs:
      return tensors_.o.data;
    case kOwnLse:
      return tensors_.lse.data;
    case kOwnOutputGradients:
      return const_cast<T*>(tensors_.d_o.data);
    case kOwnStatistics:
      return const_cast<A*>(statistics_.data());
    case kOwnQueryGradients:
      return tensors_.dq.data;
    case kOwnKeyGradients:
      return tensors_.d_keys.data;
    default:
      return const_cast<std::byte*>(arena_.data()) + buffer_of(plan_, buffer).offset;
  }
}

template <class T>
template <class Element>
TensorView<Element> PlanMemory<T>::view(int buffer, Interval heads) const {
  const Buffer& own = buffer_of(plan_, buffer);
  const std::int64_t batch = (of_keys(own.payload) ? 2 : 1) * problem_.batch;
  const TensorView<Element> view = dense_view(
      static_cast<Element*>(at(buffer)), {batch, own.heads.size(), own.rows, width(problem_, own.payload)});
  return view.heads(heads.shifted(-own.heads.begin));
}

template <class T>
TensorView<Accumulator<T>> PlanMemory<T>::column(int buffer, Interval heads, std::int64_t column) const {
  TensorView<A> one = view<A>(buffer, heads);
  one.data += column;
  one.shape.head_dim = 1;
  return one;
}

template <class T>
TensorView<Accumulator<T>> PlanMemory<T>::partial_outputs(int buffer) const {
  TensorView<A> outputs = view<A>(buffer);
  outputs.shape.head_dim = problem_.head_dim;
  return outputs;
}

#define LONGSEQ_INSTANTIATE(T)  \
  template class PlanMemory<T>; \
  template TensorView<T> PlanMemory<T>::view<T>(int, Interval) const;
LONGSEQ_INSTANTIATE(float)
LONGSEQ_INSTANTIATE(double)
LONGSEQ_INSTANTIATE(BFloat16)
#undef LONGSEQ_INSTANTIATE
template TensorView<float> PlanMemory<BFloat16>::view<float>(int, Interval) const;

}  // namespace longseq
