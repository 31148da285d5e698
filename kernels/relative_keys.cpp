#include <algorithm>
#include <utility>

#include "kernels/position.h"
#include "kernels/projection.h"

namespace longseq {
namespace {

/// Calls work(R_n of some distances, (1, 1, rows, width); rows) for all distances, some at a time.
template <class T, class Work>
void for_sinusoids(Interval distances, std::int64_t width, const Work& work) {
  for (std::int64_t begin = 0; begin < distances.size(); begin += kRelativeKeysAtOnce) {
    const Interval rows{begin, std::min(begin + kRelativeKeysAtOnce, distances.size())};
    Tensor<T> x({1, 1, rows.size(), width});
    std::fill_n(x.data(), x.shape().elements(), T{0});
    add_sinusoid(x.view(), {distances.begin + rows.begin, 1, rows.size()});
    work(std::as_const(x).view(), rows);
  }
}

}  // namespace

template <class T>
Tensor<T> relative_keys(std::span<const T> w, std::int64_t heads, std::int64_t head_dim, Interval distances) {
  const std::int64_t width = static_cast<std::int64_t>(w.size()) / (heads * head_dim);
  Tensor<T> r({1, heads, distances.size(), head_dim});
  for_sinusoids<T>(distances, width, [&](TensorView<const T> x, Interval rows) {
    project_heads<T>(x, w, r.view().tokens(rows));
  });
  return r;
}

template <class T>
std::vector<T> relative_keys_gradient(TensorView<const T> d_r, std::int64_t width, Interval distances) {
  std::vector<T> d_w(static_cast<std::size_t>(width * d_r.shape.heads * d_r.shape.head_dim));
  for_sinusoids<T>(distances, width, [&](TensorView<const T> x, Interval rows) {
    add_projection_gradient<T>(x, d_r.tokens(rows), d_w);
  });
  return d_w;
}

#define LONGSEQ_INSTANTIATE(T)                                                                   \
  template Tensor<T> relative_keys<T>(std::span<const T>, std::int64_t, std::int64_t, Interval); \
  template std::vector<T> relative_keys_gradient<T>(TensorView<const T>, std::int64_t, Interval);
LONGSEQ_INSTANTIATE(float)
LONGSEQ_INSTANTIATE(double)
#undef LONGSEQ_INSTANTIATE

}  // namespace longseq
