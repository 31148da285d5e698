// Position terms. Positions are global, whatever rank holds the tokens (maths.md, section 5).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/tensor.h"

namespace longseq {

/// Rotates the pairs (2k, 2k+1) of each row by the angle position·10000^(−2k/head_dim), in place;
/// neighbouring pairs, as RoFormer's equation 34 (Su et al. 2021). x: (batch, heads, positions.count,
/// head_dim), head_dim even. Angles are taken in f64. Throws std::invalid_argument for an odd head_dim.
template <class T>
void rotate_by_position(TensorView<T> x, Run positions);

/// The gradient of rotate_by_position(), in place: from that of the rotated rows to that of the rows. A
/// rotation's transpose is its inverse.
template <class T>
void rotate_gradient_by_position(TensorView<T> gradient, Run positions);

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

/// ELAN's distance encoder (this suite's definition, maths.md, section 6): b_h(distance) = Σ_n w_h,n ·
/// β_n(distance) for distances 0..reach, where β_n is binary digit n; 0 for negative distances. Row-major
/// (heads, 2·reach + 1), as DistanceBias wants it; w: (heads, digits), digits >= 1 + ⌊log2 reach⌋, or
/// std::invalid_argument.
template <class T>
std::vector<T> elan_table(std::span<const T> w, std::int64_t heads, std::int64_t reach);

/// The gradient of w, (heads, digits), from that of elan_table().
template <class T>
std::vector<T> elan_gradient(std::span<const T> d_table, std::int64_t heads, std::int64_t reach,
                             std::int64_t digits);

/// Distances whose sinusoids the two functions below hold at a time.
inline constexpr std::int64_t kRelativeKeysAtOnce = 512;

/// Transformer-XL's r_h(n) = W_R R_n (Dai et al. 2019, section 3.3) for these distances n: R_n is n's
/// sinusoid, as add_sinusoid() makes it. w: (width, heads·head_dim), row-major, width even, or
/// std::invalid_argument. (1, heads, distances, head_dim).
template <class T>
Tensor<T> relative_keys(std::span<const T> w, std::int64_t heads, std::int64_t head_dim, Interval distances);

/// The gradient of w, (width, heads·head_dim), from that of relative_keys().
template <class T>
std::vector<T> relative_keys_gradient(TensorView<const T> d_r, std::int64_t width, Interval distances);

}  // namespace longseq
