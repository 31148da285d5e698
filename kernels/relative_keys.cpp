#include <algorithm>

#include "kernels/position.h"
#include "kernels/projection.h"

namespace longseq {
namespace {

/// R_n for each distance, (1, 1, distances, width).
template <class T>
Tensor<T> sinusoids(Interval distances, std::int64_t width) {
  Tensor<T> x({1, 1, distances.size(), width});
  std::fill_n(x.data(), x.shape().elements(), T{0});
  add_sinusoid(x.view(), {distances.begin, 1, distances.size()});
  return x;
}

}  // namespace

template <class T>
Tensor<T> relative_keys(std::span<const T> w, std::int64_t heads, std::int64_t head_dim, Interval distances) {
  const std::int64_t width = static_cast<std::int64_t>(w.size()) / (heads * head_dim);
  constexpr std::int64_t kAtOnce = 512;  // distances, so that sinusoids need not be held for all
  Tensor<T> r({1, heads, distances.size(), head_dim});
  for (std::int64_t begin = 0; begin < distances.size(); begin += kAtOnce) {
    const Interval rows{begin, std::min(begin + kAtOnce, distances.size())};
    const Tensor<T> x = sinusoids<T>({distances.begin + rows.begin, distances.begin + rows.end}, width);
    project_heads<T>(x.view(), w, r.view().tokens(rows));
  }
  return r;
}

template <class T>
std::vector<T> relative_keys_gradient(TensorView<const T> d_r, std::int64_t width, Interval distances) {
  std::vector<T> d_w(static_cast<std::size_t>(width * d_r.shape.heads * d_r.shape.head_dim));
  project_heads_gradient<T>(sinusoids<T>(distances, width).view(), d_r, std::span<T>(d_w));
  return d_w;
}

#define LONGSEQ_INSTANTIATE(T)                                                                   \
  template Tensor<T> relative_keys<T>(std::span<const T>, std::int64_t, std::int64_t, Interval); \
  template std::vector<T> relative_keys_gradient<T>(TensorView<const T>, std::int64_t, Interval);
LONGSEQ_INSTANTIATE(float)
LONGSEQ_INSTANTIATE(double)
#undef LONGSEQ_INSTANTIATE

}  // namespace longseq
