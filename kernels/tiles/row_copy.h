// Rows to lanes and back: what a tile costs beside its products. Rows are read and written where they lie, in
// their storage type; lanes are in the type that is computed in. Not for use outside kernels/.
#pragma once

#include <cstdint>

#include "kernels/bfloat16.h"
#include "kernels/tiles/dot.h"

namespace longseq::detail {

/// lanes[d·width + t] = rows[t][d] for t < count, d < head_dim; lanes from count to width become zero.
/// T: float, double, BFloat16, or Pair (neighbours in bfloat16), which stays as it is.
template <class T>
void rows_to_lanes(const T* const* rows, std::int64_t count, std::int64_t head_dim, Accumulator<T>* lanes,
                   std::int64_t width);

/// pairs[n / 2 · width + d] = rows[n][d] and rows[n + 1][d], for even n < count, d < head_dim; a last row
/// alone has zeros beside it; columns from head_dim to width become zero.
void pair_rows(const BFloat16* const* rows, std::int64_t count, std::int64_t head_dim, Pair* pairs,
               std::int64_t width);
/// The same of rows[n] = first + n · stride.
void pair_rows(const BFloat16* first, std::int64_t stride, std::int64_t count, std::int64_t head_dim,
               Pair* pairs, std::int64_t width);

/// pairs[d · width + n / 2] = first[n·stride + d] and first[(n + 1)·stride + d], for even n < count, d <
/// head_dim; a last row alone has zeros beside it; what is left of the width becomes zero. `between` is
/// scratch, [(count + 1) / 2][head_dim]. count ≤ kMostTransposed.
inline constexpr std::int64_t kMostTransposed = 768;
void transpose_pairs(const BFloat16* first, std::int64_t stride, std::int64_t count, std::int64_t head_dim,
                     Pair* between, Pair* pairs, std::int64_t width);

/// rows[t][d] = factors[t] · lanes[d·width + t] for t < count, d < head_dim. factors: [width]; null: all
/// are 1.
template <class T>
void lanes_to_rows(const Accumulator<T>* lanes, std::int64_t width, std::int64_t count, std::int64_t head_dim,
                   const Accumulator<T>* factors, T* const* rows);

/// packed[t·width + d] = rows[t·stride + d] for t < count, d < head_dim; columns from head_dim to width
/// become zero.
template <class T>
void pack_rows(const T* rows, std::int64_t stride, std::int64_t count, std::int64_t head_dim,
               Accumulator<T>* packed, std::int64_t width);

/// out[t][d] = factor · rows[t·stride + d], plus out[t][d] if `add`, for t < count, d < head_dim.
void give_rows(const float* rows, std::int64_t stride, float factor, std::int64_t count,
               std::int64_t head_dim, bool add, float* const* out);
void give_rows(const double* rows, std::int64_t stride, double factor, std::int64_t count,
               std::int64_t head_dim, bool add, double* const* out);
/// The same for rows that lie out_stride apart: out[t·out_stride + d].
void give_rows(const float* rows, std::int64_t stride, float factor, std::int64_t count,
               std::int64_t head_dim, bool add, float* out, std::int64_t out_stride);
void give_rows(const double* rows, std::int64_t stride, double factor, std::int64_t count,
               std::int64_t head_dim, bool add, double* out, std::int64_t out_stride);

}  // namespace longseq::detail
