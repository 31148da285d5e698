// Values of any type as vectors of double, for what f32 would round too much. Included once per instruction
// set.
#if defined(LONGSEQ_WIDE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LONGSEQ_WIDE_INL_H_
#undef LONGSEQ_WIDE_INL_H_
#else
#define LONGSEQ_WIDE_INL_H_
#endif

#include <hwy/highway.h>

#include "kernels/bfloat16.h"

HWY_BEFORE_NAMESPACE();
namespace longseq::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Wide = hn::ScalableTag<double>;

HWY_INLINE hn::Vec<Wide> load_wide(const double* at) {
  return hn::LoadU(Wide(), at);
}
HWY_INLINE hn::Vec<Wide> load_wide(const float* at) {
  return hn::PromoteTo(Wide(), hn::LoadU(hn::Rebind<float, Wide>(), at));
}
HWY_INLINE hn::Vec<Wide> load_wide(const BFloat16* at) {
  const hn::Rebind<std::uint16_t, Wide> narrow;
  const hn::Rebind<std::uint32_t, Wide> wide;
  const auto bits = hn::PromoteTo(wide, hn::LoadU(narrow, reinterpret_cast<const std::uint16_t*>(at)));
  return hn::PromoteTo(Wide(), hn::BitCast(hn::Rebind<float, Wide>(), hn::ShiftLeft<16>(bits)));
}

HWY_INLINE void store_wide(hn::Vec<Wide> value, double* at) {
  hn::StoreU(value, Wide(), at);
}
HWY_INLINE void store_wide(hn::Vec<Wide> value, float* at) {  // rounds
  const hn::Rebind<float, Wide> narrow;
  hn::StoreU(hn::DemoteTo(narrow, value), narrow, at);
}

}  // namespace longseq::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
