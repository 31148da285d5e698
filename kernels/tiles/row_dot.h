// The dot product of two rows, summed in f64. Not for use outside kernels/.
#pragma once

#include <cstdint>

#include "kernels/bfloat16.h"

namespace longseq::detail {

/// Σ_d left[d] · right[d], d < head_dim. T: float, double or BFloat16.
template <class T>
double dot_rows(const T* left, const T* right, std::int64_t head_dim);

}  // namespace longseq::detail
