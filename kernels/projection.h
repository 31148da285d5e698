// The dense part of an attention layer: tokens to vectors, vectors to heads. Products are CBLAS calls on one
// thread each, made from TBB tasks.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/tensor.h"

namespace longseq {

/// x[t] = table[tokens[t]]. table: (vocabulary, width) row-major; x: (1, 1, tokens.size(), width). Throws
/// std::invalid_argument if a token is not in [0, vocabulary).
template <class T>
void embed(std::span<const std::int32_t> tokens, std::span<const T> table, TensorView<T> x);

/// y[0, h] = x · w[:, h·head_dim : (h+1)·head_dim]. x: (1, 1, tokens, width) dense rows; w: (width,
/// heads·head_dim) row-major; y: (1, heads, tokens, head_dim).
template <class T>
void project_heads(TensorView<const T> x, std::span<const T> w, TensorView<T> y);

/// d_w += xᵀ · d_y: the gradient of w, shaped as it, from that of project_heads()'s y.
template <class T>
void add_projection_gradient(TensorView<const T> x, TensorView<const T> d_y, std::span<T> d_w);

}  // namespace longseq
