// What scores need beside their product: the mask and the distance bias. Included once per instruction set.
#if defined(LONGSEQ_SCORE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LONGSEQ_SCORE_INL_H_
#undef LONGSEQ_SCORE_INL_H_
#else
#define LONGSEQ_SCORE_INL_H_
#endif

#include <limits>

#include "kernels/tiles/product-inl.h"
#include "kernels/tiles/tile.h"

HWY_BEFORE_NAMESPACE();
namespace longseq::HWY_NAMESPACE {

/// What scores have beside their product: nothing, a mask, or anything.
enum class Extra { none, mask, any };

/// The score's vector with −∞ where the query does not see key row `key`.
template <class A>
HWY_INLINE Vec<A> mask_score(const detail::Lanes<A>& lanes, std::int64_t lane, std::int64_t key,
                             Vec<A> score) {
  // A row lies within [begin, begin + size) where its distance from begin, as an unsigned number, is below
  // size.
  const hn::ScalableTag<detail::Index<A>> di;
  const hn::RebindToUnsigned<decltype(di)> du;
  const auto row = hn::Set(di, static_cast<detail::Index<A>>(key));
  const auto within = [&](int i) HWY_ATTR {
    const auto distance = hn::Sub(row, hn::Load(di, lanes.visible_begin[i] + lane));
    return hn::Lt(hn::BitCast(du, distance), hn::BitCast(du, hn::Load(di, lanes.visible_size[i] + lane)));
  };
  const Tag<A> d;
  return hn::IfThenElse(hn::RebindMask(d, hn::Or(within(0), within(1))), score,
                        hn::Set(d, -std::numeric_limits<A>::infinity()));
}

/// log2 e times the bias between the tile's queries and key row `key`.
template <class A>
HWY_INLINE Vec<A> distance_bias(const detail::Lanes<A>& lanes, const detail::TileBias<A>& bias,
                                std::int64_t lane, std::int64_t key) {
  const Tag<A> d;
  const hn::ScalableTag<detail::Index<A>> di;
  const auto reach = hn::Set(di, bias.reach);
  auto distance = hn::Sub(hn::Load(di, lanes.position + lane),
                          hn::Set(di, static_cast<detail::Index<A>>(key * bias.key_stride)));
  distance = hn::Min(hn::Max(distance, hn::Neg(reach)), reach);
  const Vec<A> value = hn::GatherIndex(d, bias.values, hn::Add(distance, hn::Load(di, lanes.table + lane)));
  return hn::Mul(value, hn::Set(d, static_cast<A>(detail::kLog2E)));
}

}  // namespace longseq::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
