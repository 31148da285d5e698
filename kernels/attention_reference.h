// The plain reference: attention in f64 straight from its definition. It shares no code with the engine, nor
// with Pattern: who sees whom is asked of a predicate, key by key.
#pragma once

#include <cstdint>
#include <functional>

#include "kernels/tensor.h"

namespace longseq {

using Sees = std::function<bool(std::int64_t query, std::int64_t key)>;
using ScoreBias = std::function<double(std::int64_t head, std::int64_t query, std::int64_t key)>;

/// o (batch, heads, queries, head_dim) and lse (batch, heads, queries, 1) of q (batch, heads, queries,
/// head_dim) over k, v (batch, kv_heads, keys, head_dim): two passes over the keys of each row, everything in
/// f64. `bias` may be empty.
void attention_reference(const Sees& sees, const ScoreBias& bias, TensorView<const double> q,
                         TensorView<const double> k, TensorView<const double> v, TensorView<double> o,
                         TensorView<double> lse);

}  // namespace longseq
