// Tensors of the shape (batch, heads, tokens, head_dim): the order of PyTorch's scaled_dot_product_attention.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

#include "kernels/positions.h"

namespace longseq {

struct Shape {
  std::int64_t batch = 0;
  std::int64_t heads = 0;
  std::int64_t tokens = 0;
  std::int64_t head_dim = 0;

  constexpr std::int64_t elements() const { return batch * heads * tokens * head_dim; }
  friend constexpr bool operator==(const Shape&, const Shape&) = default;
};

/// A view of somebody else's tensor: element (b, h, t, d) is data[b·batch_stride + h·head_stride +
/// t·token_stride + d]; head_dim is contiguous. Strides count elements.
template <class T>
struct TensorView {
  T* data = nullptr;
  Shape shape;
  std::int64_t batch_stride = 0;
  std::int64_t head_stride = 0;
  std::int64_t token_stride = 0;

  constexpr T* row(std::int64_t b, std::int64_t h, std::int64_t t) const {
    return data + b * batch_stride + h * head_stride + t * token_stride;
  }
  /// Rows [range.begin, range.end) of every head.
  constexpr TensorView tokens(Interval range) const {
    TensorView view = *this;
    view.data += range.begin * token_stride;
    view.shape.tokens = range.size();
    return view;
  }
  /// Heads [range.begin, range.end).
  constexpr TensorView heads(Interval range) const {
    TensorView view = *this;
    view.data += range.begin * head_stride;
    view.shape.heads = range.size();
    return view;
  }
  constexpr operator TensorView<const T>() const requires(!std::is_const_v<T>) {
    return {data, shape, batch_stride, head_stride, token_stride};
  }
};

/// The view of densely packed elements in (batch, heads, tokens, head_dim) order.
template <class T>
constexpr TensorView<T> dense_view(T* data, Shape shape) {
  return {data, shape, shape.heads * shape.tokens * shape.head_dim, shape.tokens * shape.head_dim,
          shape.head_dim};
}

/// Owns a dense tensor, aligned to 64 bytes. Elements are left uninitialised, so that the thread that first
/// writes a page decides which NUMA node holds it.
template <class T>
class Tensor {
 public:
  Tensor() = default;
  explicit Tensor(Shape shape)
      : shape_(shape),
        data_(static_cast<T*>(::operator new[](sizeof(T) * static_cast<std::size_t>(shape.elements()),
                                               std::align_val_t{kAlignment}))) {}

  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  const Shape& shape() const { return shape_; }
  TensorView<T> view() { return dense_view(data_.get(), shape_); }
  TensorView<const T> view() const { return dense_view<const T>(data_.get(), shape_); }

 private:
  static constexpr std::size_t kAlignment = 64;
  struct Free {
    void operator()(T* data) const { ::operator delete[](data, std::align_val_t{kAlignment}); }
  };
  Shape shape_;
  std::unique_ptr<T[], Free> data_;
};

}  // namespace longseq
