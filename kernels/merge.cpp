#include "kernels/merge.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/parallel_rows.h"

namespace longseq {

template <class T>
void merge_attention(TensorView<T> o, TensorView<T> lse, TensorView<const T> part_o,
                     TensorView<const T> part_lse) {
  constexpr T kNothing = -std::numeric_limits<T>::infinity();
  parallel_rows(o.shape, [&](std::int64_t b, std::int64_t h, std::int64_t t) {
    T& own = *lse.row(b, h, t);
    const T part = *part_lse.row(b, h, t);
    if (part == kNothing) return;
    T* out = o.row(b, h, t);
    const T* in = part_o.row(b, h, t);
    if (own == kNothing) {
      std::copy_n(in, o.shape.head_dim, out);
      own = part;
      return;
    }
    const T share =
        T{1} / (T{1} + std::exp(own - part));  // sigmoid(part − own); exp = ∞ gives 0, as it should
    for (std::int64_t d = 0; d < o.shape.head_dim; ++d) out[d] -= share * (out[d] - in[d]);
    own = std::max(own, part) + std::log1p(std::exp(-std::abs(own - part)));
  });
}

template void merge_attention<float>(TensorView<float>, TensorView<float>, TensorView<const float>,
                                     TensorView<const float>);
template void merge_attention<double>(TensorView<double>, TensorView<double>, TensorView<const double>,
                                      TensorView<const double>);

}  // namespace longseq
