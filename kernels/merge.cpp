#include "kernels/merge.h"

#include <tbb/parallel_for.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace longseq {

template <class T>
void merge_attention(TensorView<T> o, TensorView<T> lse, TensorView<const T> part_o,
                     TensorView<const T> part_lse) {
  constexpr T kNothing = -std::numeric_limits<T>::infinity();
  tbb::parallel_for(std::int64_t{0}, o.shape.batch * o.shape.heads, [&](std::int64_t index) {
    const std::int64_t b = index / o.shape.heads;
    const std::int64_t h = index % o.shape.heads;
    for (std::int64_t t = 0; t < o.shape.tokens; ++t) {
      T& own = *lse.row(b, h, t);
      const T part = *part_lse.row(b, h, t);
      if (part == kNothing) continue;
      T* out = o.row(b, h, t);
      const T* in = part_o.row(b, h, t);
      if (own == kNothing) {
        std::copy_n(in, o.shape.head_dim, out);
        own = part;
        continue;
      }
      const T share =
          T{1} / (T{1} + std::exp(own - part));  // sigmoid(part − own); exp = ∞ gives 0, as it should
      for (std::int64_t d = 0; d < o.shape.head_dim; ++d) out[d] -= share * (out[d] - in[d]);
      own = std::max(own, part) + std::log1p(std::exp(-std::abs(own - part)));
    }
  });
}

template void merge_attention<float>(TensorView<float>, TensorView<float>, TensorView<const float>,
                                     TensorView<const float>);
template void merge_attention<double>(TensorView<double>, TensorView<double>, TensorView<const double>,
                                      TensorView<const double>);

}  // namespace longseq
