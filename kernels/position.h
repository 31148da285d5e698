// Position terms. Positions are global, whatever rank holds the tokens (maths.md, section 5).
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/tensor.h"

namespace longseq {

/// Rotates the pairs (2k, 2k+1) of each row by the angle position·10000^(−2k/head_dim), in place;
/// neighbouring pairs, as RoFormer's equation 34 (Su et al. 2021). x: (batch, heads, positions.count,
/// head_dim), head_dim even. Angles are taken in f64. Throws std::invalid_argument for an odd head_dim.
template <class T>
void rotate_by_position(TensorView<T> x, Run positions);

/// Adds concat(sin(p·w_k), cos(p·w_k)), w_k = 10000^(−2k/width), to each row: Transformer-XL's order, where
/// Vaswani et al. interleave. x: (1, 1, positions.count, width), width even. Throws std::invalid_argument if
/// it is odd.
template <class T>
void add_sinusoid(TensorView<T> x, Run positions);

/// ALiBi's distance bias (Press et al. 2022): −slope_h·|distance|, for distances −reach..reach; row-major
/// (heads, 2·reach + 1). Slopes are 2^(−8(h+1)/heads) for a power of two, else as the paper's code fills them
/// in.
template <class T>
std::vector<T> alibi_table(std::int64_t heads, std::int64_t reach);

}  // namespace longseq
