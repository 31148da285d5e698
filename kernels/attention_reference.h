// The plain reference: attention and its gradients in f64 straight from their definitions. It shares no code
// with the engine, nor with Pattern: who sees whom is asked of a predicate, key by key.
#pragma once

#include <cstdint>
#include <functional>

#include "kernels/tensor.h"

namespace longseq {

using Sees = std::function<bool(std::int64_t query, std::int64_t key)>;
/// What is added to the score c · q·k.
using ScoreBias =
    std::function<double(std::int64_t batch, std::int64_t head, std::int64_t query, std::int64_t key)>;
/// Told of each dS: the gradient of a score, and so of what was added to it.
using ScoreGradient = std::function<void(std::int64_t batch, std::int64_t head, std::int64_t query,
                                         std::int64_t key, double gradient)>;

/// o (batch, heads, queries, head_dim) and lse (batch, heads, queries, 1) of q (batch, heads, queries,
/// head_dim) over k, v (batch, kv_heads, keys, head_dim): two passes over the keys of each row, everything in
/// f64. `bias` may be empty.
void attention_reference(const Sees& sees, const ScoreBias& bias, TensorView<const double> q,
                         TensorView<const double> k, TensorView<const double> v, TensorView<double> o,
                         TensorView<double> lse);

/// dq, dk, dv, shaped as q, k, v, for the gradient d_o of o: maths.md, section 1, without lse or delta of
/// anybody else. `bias` and `told` may be empty.
void attention_gradient_reference(const Sees& sees, const ScoreBias& bias, TensorView<const double> q,
                                  TensorView<const double> k, TensorView<const double> v,
                                  TensorView<const double> d_o, TensorView<double> dq, TensorView<double> dk,
                                  TensorView<double> dv, const ScoreGradient& told = {});

}  // namespace longseq
