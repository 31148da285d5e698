// One attention layer on one rank: its tensors, and the executors of the passes that a case runs.
#pragma once

#include <mpi.h>

#include <memory>
#include <vector>

#include "drivers/execution/executor.h"
#include "drivers/inputs.h"
#include "drivers/problem.h"

namespace longseq {

template <class T>
class Layer {
 public:
  using A = Accumulator<T>;
  /// Allocates everything. The passes' plans move into the executors.
  Layer(MPI_Comm comm, LayerInputs<T> inputs, std::vector<PlannedPass>& passes);

  bool runs(Pass pass) const { return executor(pass) != nullptr; }
  /// Collective; in the caller's TBB arena.
  PassTimes run(Pass pass, bool overlap) { return executor(pass)->run(overlap); }
  const Traffic& traffic(Pass pass) const { return executor(pass)->traffic(); }
  std::span<const StepMoments> moments(Pass pass) const { return executor(pass)->moments(); }

  LayerInputs<T> inputs;
  Tensor<T> o;
  Tensor<A> lse;
  Tensor<A> dq;      // empty without a backward pass, as all gradients
  Tensor<A> d_keys;  // (2·batch, kv_heads, rows, head_dim): dK, then dV
  PositionGradients<A> d_position;

 private:
  const std::unique_ptr<Executor<T>>& executor(Pass pass) const {
    return pass == Pass::forward ? forward_ : backward_;
  }
  std::unique_ptr<Executor<T>> forward_, backward_;
};

}  // namespace longseq
