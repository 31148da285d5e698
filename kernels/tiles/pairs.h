// When bfloat16 tensors are multiplied as pairs. Not for use outside kernels/.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/bfloat16.h"
#include "kernels/simd.h"
#include "kernels/tensor.h"
#include "kernels/tiles/dot.h"

namespace longseq::detail {

/// Relative keys are kept in f32, and so are their products.
template <class T>
bool may_use_pairs(bool relative) {
  return std::is_same_v<T, BFloat16> && !relative && dot_in_use();
}

/// Whether rows of the view can be read as pairs.
template <class T>
bool lies_in_pairs(const TensorView<const T>& view) {
  const auto even = [](std::int64_t stride) { return stride % 2 == 0; };
  return even(view.shape.head_dim) && even(view.batch_stride) && even(view.head_stride) &&
         even(view.token_stride) && reinterpret_cast<std::uintptr_t>(view.data) % sizeof(Pair) == 0;
}

}  // namespace longseq::detail
