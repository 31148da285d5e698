// The backward pass's way from scores to weights and from do·v to dS. Included once per instruction set.
#if defined(LONGSEQ_BACKWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LONGSEQ_BACKWARD_INL_H_
#undef LONGSEQ_BACKWARD_INL_H_
#else
#define LONGSEQ_BACKWARD_INL_H_
#endif

#include "kernels/tiles/backward_tile.h"
#include "kernels/tiles/exp2-inl.h"
#include "kernels/tiles/product-inl.h"
#include "kernels/tiles/score-inl.h"

HWY_BEFORE_NAMESPACE();
#if LONGSEQ_MAY_DOT
#pragma GCC target("avx512bf16")
#endif
namespace longseq::HWY_NAMESPACE {
using detail::BackwardOperands;
using detail::BackwardTile;
using detail::Element;
using detail::kBackwardLanes;
using detail::KeyGradients;
using detail::kLaneBlock;
using detail::Pair;
using detail::Piece;
using detail::TileBias;

/// A tile and a piece on their way through the pass. E: what products are made of, A itself or Pair.
template <class A, class E>
struct BackwardStep {
  BackwardTile<A>& tile;
  const BackwardOperands<E>& operands;
  KeyGradients<A>& gradients;
  const Piece& piece;
  const TileBias<A>& bias;
  bool add_to_scores;
  A* HWY_RESTRICT weights;
  A* HWY_RESTRICT d_scores;

  std::int64_t row(std::int64_t key) const { return (key - piece.keys.begin) * kBackwardLanes; }
  std::int64_t steps() const { return tile.head_dim / Element<E>::kValues; }  // of a product over head_dim
  std::int64_t lanes(std::int64_t lane) const {
    return lane / kLaneBlock * steps() * kLaneBlock + lane % kLaneBlock;
  }
};

/// What there is beside the scores of a span. An lse that is far counts as anything.
template <class A, class E>
HWY_INLINE Extra extra_of(const BackwardStep<A, E>& call, const detail::Span& span) {
  if (call.add_to_scores || call.bias.values != nullptr || call.tile.far) return Extra::any;
  return span.masked ? Extra::mask : Extra::none;
}

/// weights = 2^(scale·q·k + bias − lse), 0 where not visible.
template <Extra kExtra>
struct Weigh {
  template <class A, class E>
  static HWY_INLINE Vec<A> finish(const BackwardStep<A, E>& call, bool masked, std::int64_t lane,
                                  std::int64_t key, Vec<A> score) {
    const Tag<A> d;
    const Vec<A> scale = hn::Set(d, call.tile.score_scale);
    const Vec<A> factor = hn::Load(d, call.tile.lse_factor + lane);
    if constexpr (kExtra != Extra::any) {
      if constexpr (kExtra == Extra::mask) score = mask_score(call.tile.lanes, lane, key, score);
      const TakenOff<Vec<A>> whole{hn::Load(d, call.tile.lse_lowest + lane),
                                   hn::Load(d, call.tile.lse_shift + lane)};
      return hn::Mul(exp2_weight(d, score, scale, whole), factor);
    }
    if (call.add_to_scores) score = hn::Add(score, hn::Load(d, call.d_scores + call.row(key) + lane));
    Vec<A> offset = hn::Load(d, call.tile.lse_whole + lane);
    if (call.bias.values != nullptr)
      offset = hn::Sub(offset, distance_bias(call.tile.lanes, call.bias, lane, key));
    if (masked) score = mask_score(call.tile.lanes, lane, key, score);
    return hn::Mul(exp2_weight(d, hn::MulSub(score, scale, offset)), factor);
  }
  template <class A, class E>
  static HWY_INLINE const E* left(const BackwardStep<A, E>& call) {
    return call.operands.k;
  }
  template <class A, class E>
  static HWY_INLINE const E* right(const BackwardStep<A, E>& call) {
    return call.operands.query_lanes;
  }
  template <class A, class E>
  static HWY_INLINE A* out(const BackwardStep<A, E>& call) {
    return call.weights;
  }
};

/// dS from a weight and do·v.
template <class A, class E>
HWY_INLINE Vec<A> differentiate(const BackwardStep<A, E>& call, std::int64_t lane, Vec<A> weight,
                                Vec<A> d_weight) {
  return hn::Mul(weight, hn::Sub(d_weight, hn::Load(Tag<A>(), call.tile.delta + lane)));
}

/// d_scores = weights · (do·v − delta), whatever the scores had.
struct DifferentiateAll {
  template <class A, class E>
  static HWY_INLINE Vec<A> finish(const BackwardStep<A, E>& call, bool /*masked*/, std::int64_t lane,
                                  std::int64_t key, Vec<A> d_weight) {
    return differentiate(call, lane, hn::Load(Tag<A>(), call.weights + call.row(key) + lane), d_weight);
  }
  template <class A, class E>
  static HWY_INLINE const E* left(const BackwardStep<A, E>& call) {
    return call.operands.v;
  }
  template <class A, class E>
  static HWY_INLINE const E* right(const BackwardStep<A, E>& call) {
    return call.operands.d_o_lanes;
  }
  template <class A, class E>
  static HWY_INLINE A* out(const BackwardStep<A, E>& call) {
    return call.d_scores;
  }
};

template <Extra>
using Differentiate = DifferentiateAll;

#if LONGSEQ_MAY_DOT
/// Neighbouring lanes as pairs, rounded to nearest even.
HWY_INLINE void store_lane_pairs(Vec<float> values, Pair* at) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(at), (__m256i)_mm512_cvtneps_pbh(values.raw));
}
#endif

}  // namespace longseq::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
