// When bfloat16 tensors are multiplied as pairs. Not for use outside kernels/.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/bfloat16.h"
#include "kernels/simd.h"
#include "kernels/tensor.h"
#include "kernels/tiles/dot.h"
#include "kernels/tiles/matrix.h"

namespace longseq::detail {

/// How tensors of T are multiplied, if they lie in pairs. Relative keys are kept in f32, and so are their
/// products.
template <class T>
PairProducts pair_products_of(std::int64_t head_dim, bool relative) {
  if (!std::is_same_v<T, BFloat16> || relative) return PairProducts::none;
  const PairProducts products = pair_products();
  return products == PairProducts::matrix && head_dim % kMatrixDepth != 0 ? PairProducts::none : products;
}

/// Whether rows of the view can be read as pairs.
template <class T>
bool lies_in_pairs(const TensorView<const T>& view) {
  const auto even = [](std::int64_t stride) { return stride % 2 == 0; };
  return even(view.shape.head_dim) && even(view.batch_stride) && even(view.head_stride) &&
         even(view.token_stride) && reinterpret_cast<std::uintptr_t>(view.data) % sizeof(Pair) == 0;
}

}  // namespace longseq::detail
