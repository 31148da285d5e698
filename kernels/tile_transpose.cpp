// Rows to lanes and back: what a tile costs beside its products, 4 rows × one vector at a time.
#include <algorithm>
#include <cstring>

#include "kernels/attention_tiles.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/tile_transpose.cpp"
#include <hwy/foreach_target.h>
// foreach_target comes first: what follows is compiled once per instruction set.
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace longseq::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using longseq::detail::kTileRows;

constexpr std::int64_t kRows = 4;

template <class T>
HWY_INLINE void to_lanes(const T* HWY_RESTRICT rows, std::int64_t stride, std::int64_t count,
                         std::int64_t head_dim, T* HWY_RESTRICT lanes) {
  const hn::ScalableTag<T> d;
  const std::int64_t width = static_cast<std::int64_t>(hn::Lanes(d));
  HWY_ALIGN T mixed[kRows * hn::MaxLanes(d)];  // [width][kRows]
  std::int64_t t = 0;
  for (; t + kRows <= count; t += kRows) {
    const T* row = rows + t * stride;
    std::int64_t dim = 0;
    for (; dim + width <= head_dim; dim += width) {
      hn::StoreInterleaved4(hn::LoadU(d, row + dim), hn::LoadU(d, row + stride + dim),
                            hn::LoadU(d, row + 2 * stride + dim), hn::LoadU(d, row + 3 * stride + dim), d,
                            mixed);
      for (std::int64_t i = 0; i < width; ++i)
        std::memcpy(lanes + (dim + i) * kTileRows + t, mixed + i * kRows, kRows * sizeof(T));
    }
    for (; dim < head_dim; ++dim) {
      for (std::int64_t r = 0; r < kRows; ++r) lanes[dim * kTileRows + t + r] = row[r * stride + dim];
    }
  }
  for (; t < count; ++t) {
    for (std::int64_t dim = 0; dim < head_dim; ++dim) lanes[dim * kTileRows + t] = rows[t * stride + dim];
  }
  if (count == kTileRows) return;
  for (std::int64_t dim = 0; dim < head_dim; ++dim) {
    std::fill(lanes + dim * kTileRows + count, lanes + (dim + 1) * kTileRows, T{0});
  }
}

template <class T>
HWY_INLINE void to_rows(const T* HWY_RESTRICT lanes, std::int64_t count, std::int64_t head_dim,
                        T* HWY_RESTRICT rows, std::int64_t stride) {
  const hn::ScalableTag<T> d;
  const std::int64_t width = static_cast<std::int64_t>(hn::Lanes(d));
  HWY_ALIGN T mixed[kRows * hn::MaxLanes(d)];  // [width][kRows]
  std::int64_t t = 0;
  for (; t + kRows <= count; t += kRows) {
    T* row = rows + t * stride;
    std::int64_t dim = 0;
    for (; dim + width <= head_dim; dim += width) {
      for (std::int64_t i = 0; i < width; ++i)
        std::memcpy(mixed + i * kRows, lanes + (dim + i) * kTileRows + t, kRows * sizeof(T));
      hn::Vec<decltype(d)> first, second, third, fourth;
      hn::LoadInterleaved4(d, mixed, first, second, third, fourth);
      hn::StoreU(first, d, row + dim);
      hn::StoreU(second, d, row + stride + dim);
      hn::StoreU(third, d, row + 2 * stride + dim);
      hn::StoreU(fourth, d, row + 3 * stride + dim);
    }
    for (; dim < head_dim; ++dim) {
      for (std::int64_t r = 0; r < kRows; ++r) row[r * stride + dim] = lanes[dim * kTileRows + t + r];
    }
  }
  for (; t < count; ++t) {
    for (std::int64_t dim = 0; dim < head_dim; ++dim) rows[t * stride + dim] = lanes[dim * kTileRows + t];
  }
}

void to_lanes_f32(const float* rows, std::int64_t stride, std::int64_t count, std::int64_t head_dim,
                  float* lanes) {
  to_lanes(rows, stride, count, head_dim, lanes);
}
void to_lanes_f64(const double* rows, std::int64_t stride, std::int64_t count, std::int64_t head_dim,
                  double* lanes) {
  to_lanes(rows, stride, count, head_dim, lanes);
}
void to_rows_f32(const float* lanes, std::int64_t count, std::int64_t head_dim, float* rows,
                 std::int64_t stride) {
  to_rows(lanes, count, head_dim, rows, stride);
}
void to_rows_f64(const double* lanes, std::int64_t count, std::int64_t head_dim, double* rows,
                 std::int64_t stride) {
  to_rows(lanes, count, head_dim, rows, stride);
}

}  // namespace longseq::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace longseq {
HWY_EXPORT(to_lanes_f32);
HWY_EXPORT(to_lanes_f64);
HWY_EXPORT(to_rows_f32);
HWY_EXPORT(to_rows_f64);

namespace detail {

void rows_to_lanes(const float* rows, std::int64_t stride, std::int64_t count, std::int64_t head_dim,
                   float* lanes) {
  HWY_DYNAMIC_DISPATCH(to_lanes_f32)(rows, stride, count, head_dim, lanes);
}
void rows_to_lanes(const double* rows, std::int64_t stride, std::int64_t count, std::int64_t head_dim,
                   double* lanes) {
  HWY_DYNAMIC_DISPATCH(to_lanes_f64)(rows, stride, count, head_dim, lanes);
}
void lanes_to_rows(const float* lanes, std::int64_t count, std::int64_t head_dim, float* rows,
                   std::int64_t stride) {
  HWY_DYNAMIC_DISPATCH(to_rows_f32)(lanes, count, head_dim, rows, stride);
}
void lanes_to_rows(const double* lanes, std::int64_t count, std::int64_t head_dim, double* rows,
                   std::int64_t stride) {
  HWY_DYNAMIC_DISPATCH(to_rows_f64)(lanes, count, head_dim, rows, stride);
}

}  // namespace detail
}  // namespace longseq
#endif
