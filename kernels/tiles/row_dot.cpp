#include "kernels/tiles/row_dot.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/tiles/row_dot.cpp"
#include <hwy/foreach_target.h>
// foreach_target comes first: what follows is compiled once per instruction set.
#include <hwy/highway.h>

#include "kernels/tiles/wide-inl.h"

HWY_BEFORE_NAMESPACE();
namespace longseq::HWY_NAMESPACE {
template <class T>
HWY_INLINE double dot(const T* HWY_RESTRICT left, const T* HWY_RESTRICT right, std::int64_t head_dim) {
  const Wide d;
  const std::int64_t step = static_cast<std::int64_t>(hn::Lanes(d));
  auto even = hn::Zero(d), odd = hn::Zero(d);  // two sums: an addition need not wait for the one before
  std::int64_t dim = 0;
  for (; dim + 2 * step <= head_dim; dim += 2 * step) {
    even = hn::MulAdd(load_wide(left + dim), load_wide(right + dim), even);
    odd = hn::MulAdd(load_wide(left + dim + step), load_wide(right + dim + step), odd);
  }
  double sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(even, odd)));
  for (; dim < head_dim; ++dim) sum += static_cast<double>(left[dim]) * static_cast<double>(right[dim]);
  return sum;
}

#define LONGSEQ_DEFINE(T, name)                                             \
  double dot_##name(const T* left, const T* right, std::int64_t head_dim) { \
    return dot(left, right, head_dim);                                      \
  }
LONGSEQ_DEFINE(float, f32)
LONGSEQ_DEFINE(double, f64)
LONGSEQ_DEFINE(BFloat16, bf16)
#undef LONGSEQ_DEFINE

}  // namespace longseq::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace longseq {

#define LONGSEQ_DISPATCH(T, name)                                            \
  HWY_EXPORT(dot_##name);                                                    \
  namespace detail {                                                         \
  template <>                                                                \
  double dot_rows<T>(const T* left, const T* right, std::int64_t head_dim) { \
    return HWY_DYNAMIC_DISPATCH(dot_##name)(left, right, head_dim);          \
  }                                                                          \
  }
LONGSEQ_DISPATCH(float, f32)
LONGSEQ_DISPATCH(double, f64)
LONGSEQ_DISPATCH(BFloat16, bf16)
#undef LONGSEQ_DISPATCH

}  // namespace longseq
#endif
