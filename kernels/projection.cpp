#include "kernels/projection.h"

#include <cblas.h>
#include <fmt/format.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <stdexcept>

namespace longseq {
namespace {

constexpr std::int64_t kRowsPerTask = 256;

/// c = op(a) · b + beta · c, (m, k) · (k, n).
void multiply(CBLAS_TRANSPOSE op, int beta, std::int64_t m, std::int64_t n, std::int64_t k, const float* a,
              std::int64_t lda, const float* b, std::int64_t ldb, float* c, std::int64_t ldc) {
  cblas_sgemm(CblasRowMajor, op, CblasNoTrans, static_cast<blasint>(m), static_cast<blasint>(n),
              static_cast<blasint>(k), 1.0f, a, static_cast<blasint>(lda), b, static_cast<blasint>(ldb),
              static_cast<float>(beta), c, static_cast<blasint>(ldc));
}

void multiply(CBLAS_TRANSPOSE op, int beta, std::int64_t m, std::int64_t n, std::int64_t k, const double* a,
              std::int64_t lda, const double* b, std::int64_t ldb, double* c, std::int64_t ldc) {
  cblas_dgemm(CblasRowMajor, op, CblasNoTrans, static_cast<blasint>(m), static_cast<blasint>(n),
              static_cast<blasint>(k), 1.0, a, static_cast<blasint>(lda), b, static_cast<blasint>(ldb),
              static_cast<double>(beta), c, static_cast<blasint>(ldc));
}

}  // namespace

template <class T>
void embed(std::span<const std::int32_t> tokens, std::span<const T> table, TensorView<T> x) {
  const std::int64_t width = x.shape.head_dim;
  const std::int64_t vocabulary = static_cast<std::int64_t>(table.size()) / width;
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    if (tokens[t] < 0 || tokens[t] >= vocabulary) {
      throw std::invalid_argument(
          fmt::format("token {} is {}; expected 0 to {}: the vocabulary has {} entries", t, tokens[t],
                      vocabulary - 1, vocabulary));
    }
    std::copy_n(table.data() + tokens[t] * width, width, x.row(0, 0, static_cast<std::int64_t>(t)));
  }
}

template <class T>
void project_heads(TensorView<const T> x, std::span<const T> w, TensorView<T> y) {
  openblas_set_num_threads(1);  // the threads are TBB's
  const std::int64_t blocks = (x.shape.tokens + kRowsPerTask - 1) / kRowsPerTask;
  const std::int64_t head_dim = y.shape.head_dim;
  tbb::parallel_for(std::int64_t{0}, blocks * y.shape.heads, [&](std::int64_t task) {
    const std::int64_t begin = task / y.shape.heads * kRowsPerTask;
    const std::int64_t head = task % y.shape.heads;
    multiply(CblasNoTrans, 0, std::min(kRowsPerTask, x.shape.tokens - begin), head_dim, x.shape.head_dim,
             x.row(0, 0, begin), x.token_stride, w.data() + head * head_dim, y.shape.heads * head_dim,
             y.row(0, head, begin), y.token_stride);
  });
}

template <class T>
void add_projection_gradient(TensorView<const T> x, TensorView<const T> d_y, std::span<T> d_w) {
  openblas_set_num_threads(1);
  const Shape& y = d_y.shape;
  tbb::parallel_for(std::int64_t{0}, y.heads, [&](std::int64_t head) {
    multiply(CblasTrans, 1, x.shape.head_dim, y.head_dim, y.tokens, x.data, x.token_stride,
             d_y.row(0, head, 0), d_y.token_stride, d_w.data() + head * y.head_dim, y.heads * y.head_dim);
  });
}

template void embed<float>(std::span<const std::int32_t>, std::span<const float>, TensorView<float>);
template void embed<double>(std::span<const std::int32_t>, std::span<const double>, TensorView<double>);
template void project_heads<float>(TensorView<const float>, std::span<const float>, TensorView<float>);
template void project_heads<double>(TensorView<const double>, std::span<const double>, TensorView<double>);
template void add_projection_gradient<float>(TensorView<const float>, TensorView<const float>,
                                             std::span<float>);
template void add_projection_gradient<double>(TensorView<const double>, TensorView<const double>,
                                              std::span<double>);

}  // namespace longseq
