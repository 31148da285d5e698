#include "drivers/layer.h"

#include <utility>

namespace longseq {

template <class T>
Layer<T>::Layer(MPI_Comm comm, LayerInputs<T> own_inputs, std::vector<PlannedPass>& passes)
    : inputs(std::move(own_inputs)), o(inputs.q.shape()) {
  const Shape& shape = o.shape();
  lse = Tensor<A>({shape.batch, shape.heads, shape.tokens, 1});
  ShardTensors<T> tensors{std::as_const(inputs.q).view(), std::as_const(inputs.keys).view(), o.view(),
                          lse.view()};
  if (passes.back().problem.pass == Pass::backward) {
    dq = Tensor<A>(shape);
    d_keys = Tensor<A>(inputs.keys.shape());
    tensors.d_o = std::as_const(inputs.d_o).view();
    tensors.dq = dq.view();
    tensors.d_keys = d_keys.view();
    d_position = PositionGradients<A>(inputs.position);
    tensors.d_terms = d_position.views();
  }
  for (PlannedPass& pass : passes) {
    (pass.problem.pass == Pass::forward ? forward_ : backward_) = std::make_unique<Executor<T>>(
        comm, pass.problem, std::move(pass.plan), inputs.position.terms(), tensors);
  }
}

template class Layer<float>;
template class Layer<double>;
template class Layer<BFloat16>;

}  // namespace longseq
