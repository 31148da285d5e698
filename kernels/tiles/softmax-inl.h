// The softmax of a forward tile between its two products: the running maximum, weights from scores, and what
// large scores need. Included once per instruction set.
#if defined(LONGSEQ_SOFTMAX_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LONGSEQ_SOFTMAX_INL_H_
#undef LONGSEQ_SOFTMAX_INL_H_
#else
#define LONGSEQ_SOFTMAX_INL_H_
#endif

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/tiles/exp2-inl.h"
#include "kernels/tiles/forward_tile.h"
#include "kernels/tiles/product-inl.h"
#include "kernels/tiles/score-inl.h"

HWY_BEFORE_NAMESPACE();
#if LONGSEQ_MAY_DOT
#pragma GCC target("avx512bf16")
#endif
namespace longseq::HWY_NAMESPACE {
using detail::Element;
using detail::ForwardTile;
using detail::KeyRows;
using detail::kForwardLanes;
using detail::kLaneGroup;
using detail::kLog2E;
using detail::Pair;
using detail::Piece;
using detail::TileBias;

constexpr float kLargeScore = 48.0f;  // log2 e times a score of 33: above it f32 scores cost more than 1e-6
constexpr float kNoWeight = -30.0f;   // an exponent below it is a weight of less than 1e-9
constexpr float kSlack = 8.0f;  // how far scores may pass the maximum before it is raised: weights up to 2^8

/// A tile and a piece on their way through the pass. E: what products are made of, A itself or Pair.
template <class A, class E>
struct ForwardStep {
  ForwardTile<A>& tile;
  const E* HWY_RESTRICT queries;  // the tile's
  const KeyRows<E>& keys;
  const Piece& piece;
  const TileBias<A>& bias;
  bool add_to_scores;
  A* HWY_RESTRICT scores;
  E* HWY_RESTRICT weights;        // the scores' place, or that of their pairs
  A* HWY_RESTRICT block_maximum;  // [kForwardLanes]

  A* score_row(std::int64_t key) const { return scores + (key - piece.keys.begin) * kForwardLanes; }
  E* weight_row(std::int64_t key) const {
    return weights + (key - piece.keys.begin) / Element<E>::kValues * kForwardLanes;
  }
};

/// A score with its bias, which makes it a finished exponent of 2, and −∞ where it is not visible.
template <class A, class E>
HWY_INLINE Vec<A> finish_score(const ForwardStep<A, E>& call, bool masked, std::int64_t lane,
                               std::int64_t key, Vec<A> score) {
  if (call.bias.values != nullptr) {
    score = hn::MulAdd(score, hn::Set(Tag<A>(), call.tile.score_scale),
                       distance_bias(call.tile.lanes, call.bias, lane, key));
  }
  return masked ? mask_score(call.tile.lanes, lane, key, score) : score;
}

/// Maxima beyond it are taken off the scores first: those of scores that are then computed in f64 (`reduce`),
/// and those that exp2_weight cannot take off.
template <class A, class E>
HWY_INLINE A most_maximum(const ForwardStep<A, E>& call) {
  const bool exactly = std::is_same_v<E, float> && !call.add_to_scores;
  return exactly ? static_cast<A>(kLargeScore) : static_cast<A>(Exp2<A>::kMostWhole / 2);
}

/// What to subtract from exponents: the maximum, or 0 for a row that has seen no key yet (−∞ − 0 is fine, −∞
/// − −∞ not).
template <class D, class V = hn::Vec<D>>
HWY_INLINE V base_of(D d, V maximum) {
  return hn::IfThenZeroElse(hn::Eq(maximum, hn::Set(d, -std::numeric_limits<hn::TFromD<D>>::infinity())),
                            maximum);
}

struct Raised {
  bool any;    // some maximum of something moved: everything summed before must decay
  bool large;  // some maximum is beyond most_maximum
};

/// The running maximum for that of a block: a whole number, so that decays are exact. Beside weights in
/// bfloat16 that is nothing, but the largest weight of a row had better be 1, which they can hold: so the
/// maximum itself.
template <class A, class E>
HWY_INLINE Vec<A> maximum_of(Vec<A> block) {
  return std::is_same_v<A, E> ? hn::Ceil(block) : block;
}

/// Raises the running maximum where the block's has passed it by more than kSlack, and writes the decay
/// 2^(old maximum − new maximum) of everything summed before. A maximum that lags keeps weights within
/// 2^kSlack, as exact as ever, and spares the outputs most of their multiplications (Dao et al.,
/// FlashAttention-4).
template <class A, class E>
HWY_INLINE Raised raise_maximum(const ForwardStep<A, E>& call, A scale, A* HWY_RESTRICT decay) {
  const Tag<A> d;
  const Vec<A> slack = hn::Set(d, static_cast<A>(kSlack));
  const Vec<A> nothing = hn::Set(d, -std::numeric_limits<A>::infinity());
  const Vec<A> limit = hn::Set(d, most_maximum(call));
  Raised raised{false, false};
  for (std::int64_t lane = 0; lane < kForwardLanes; lane += lanes_of<A>()) {
    const Vec<A> old_maximum = hn::Load(d, call.tile.maximum + lane);
    const Vec<A> block = hn::Mul(hn::Load(d, call.block_maximum + lane), hn::Set(d, scale));
    const auto passed = hn::Gt(block, hn::Add(old_maximum, slack));
    const Vec<A> maximum = hn::IfThenElse(passed, maximum_of<A, E>(block), old_maximum);
    hn::Store(maximum, d, call.tile.maximum + lane);
    hn::Store(exp2_weight(d, hn::Sub(old_maximum, base_of(d, maximum))), d, decay + lane);
    raised.any = raised.any || !hn::AllFalse(d, hn::And(passed, hn::Gt(old_maximum, nothing)));
    const Vec<A> largest = hn::Max(maximum, block);
    const auto counts = hn::And(hn::Ne(largest, nothing), hn::Gt(hn::Abs(largest), limit));
    raised.large = raised.large || !hn::AllFalse(d, counts);
  }
  return raised;
}

/// Stores the weights of two neighbouring keys, in place of their scores or as pairs.
template <class A>
HWY_INLINE void store_weights(Vec<A> first, Vec<A> second, A* HWY_RESTRICT at) {
  hn::Store(first, Tag<A>(), at);
  hn::Store(second, Tag<A>(), at + kForwardLanes);
}
HWY_INLINE void store_weights(Vec<float> first, Vec<float> second, Pair* HWY_RESTRICT at) {
  hn::Store(pairs_of(first, second), Tag<std::uint32_t>(), &at->bits);
}

/// Turns exponents of 2, scale·score − maximum, into weights and adds them to the sum. `reduced`: scores are
/// those exponents already.
template <class A, class E>
HWY_NOINLINE void soften(const ForwardStep<A, E>& call, A scale, bool reduced, const A* HWY_RESTRICT decay) {
  const Tag<A> d;
  if (reduced) scale = A{1};
  const Vec<A> scaling = hn::Set(d, scale);
  constexpr std::int64_t kWeightRows =
      2 / Element<E>::kValues * kForwardLanes;  // elements to the next two keys
  for (std::int64_t lane = 0; lane < kForwardLanes; lane += lanes_of<A>()) {
    const Interval keys = call.piece.group_keys[lane / kLaneGroup];
    const Vec<A> base = reduced ? hn::Zero(d) : base_of(d, hn::Load(d, call.tile.maximum + lane));
    const Vec<A> whole = std::is_same_v<A, E> ? base : hn::Ceil(base);
    const TakenOff<Vec<A>> off = taken_off(d, whole, scale);
    const Powers<Tag<A>> terms =
        std::is_same_v<A, E> ? powers(d) : powers(d, exp2_weight(d, hn::Sub(whole, base)));
    Vec<A> sum = hn::Zero(d),
           even = hn::Zero(d);  // the piece's, added to the old sum as one: shorter sums round less
    const A* HWY_RESTRICT scores = call.score_row(keys.begin) + lane;
    E* HWY_RESTRICT weights = call.weight_row(keys.begin) + lane;
    const auto weight = [&](const A* at)
                            HWY_ATTR { return exp2_weight(d, hn::Load(d, at), scaling, off, terms); };
    std::int64_t n = keys.size();
    for (; n >= 4; n -= 4, scores += 4 * kForwardLanes, weights += 2 * kWeightRows) {
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i) {
        const Vec<A> first = weight(scores + 2 * i * kForwardLanes);
        const Vec<A> second = weight(scores + (2 * i + 1) * kForwardLanes);
        store_weights(first, second, weights + i * kWeightRows);
        even = hn::Add(even, first);
        sum = hn::Add(sum, second);
      }
    }
    for (; n >= 2; n -= 2, scores += 2 * kForwardLanes, weights += kWeightRows) {
      const Vec<A> first = weight(scores), second = weight(scores + kForwardLanes);
      store_weights(first, second, weights);
      sum = hn::Add(sum, hn::Add(first, second));
    }
    if constexpr (Element<E>::kValues == 1) {
      if (n == 1) {
        const Vec<A> last = weight(scores);
        hn::Store(last, d, weights);
        sum = hn::Add(sum, last);
      }
    }
    const Vec<A> before = hn::Load(d, call.tile.sum + lane);
    hn::Store(hn::MulAdd(before, hn::Load(d, decay + lane), hn::Add(sum, even)), d, call.tile.sum + lane);
  }
}

/// The exponent of a pair's weight in f64: a score of 1000 in f32 is off by 6e-5, and its weight by as much.
inline float exact_exponent(const ForwardStep<float, float>& call, std::int64_t key, std::int64_t lane,
                            double maximum) {
  const ForwardTile<float>& tile = call.tile;
  const float* k = call.keys.k_row(key);
  double dot = 0;
  for (std::int64_t d = 0; d < tile.head_dim; ++d)
    dot += static_cast<double>(tile.queries[d * kForwardLanes + lane]) * static_cast<double>(k[d]);
  double exponent = dot * kLog2E / std::sqrt(static_cast<double>(tile.head_dim)) - maximum;
  if (call.bias.values != nullptr) {
    const std::int64_t distance = std::clamp<std::int64_t>(
        tile.lanes.position[lane] - key * call.bias.key_stride, -call.bias.reach, call.bias.reach);
    exponent += kLog2E * static_cast<double>(call.bias.values[tile.lanes.table[lane] + distance]);
  }
  return static_cast<float>(exponent);
}

/// Replaces the scores by exponents less the maximum, scale·score − maximum; in f32 those that carry weight
/// are computed again in f64, unless something had been added to them. Rare, so plain.
template <class A, class E>
HWY_NOINLINE void reduce(const ForwardStep<A, E>& call, A scale) {
  const ForwardTile<A>& tile = call.tile;
  for (std::int64_t lane = 0; lane < kForwardLanes; ++lane) {
    const Interval keys = call.piece.group_keys[lane / kLaneGroup];
    const A maximum = std::isinf(tile.maximum[lane]) ? A{0} : tile.maximum[lane];
    for (std::int64_t key = keys.begin; key < keys.end; ++key) {
      A& score = call.score_row(key)[lane];
      // Lanes without a query took part in the scores, and go on taking part.
      score = lane < tile.lanes.count ? score * scale - maximum : A{0};
      if constexpr (std::is_same_v<E, float>) {
        if (lane < tile.lanes.count && score > kNoWeight && !call.add_to_scores)
          score = exact_exponent(call, key, lane, static_cast<double>(maximum));
      }
    }
  }
}

/// rows = rows · decay.
template <class A>
HWY_NOINLINE void decay_rows(A* rows, std::int64_t count, const A* HWY_RESTRICT decay) {
  const Tag<A> d;
  for (std::int64_t row = 0; row < count; ++row) {
    for (std::int64_t lane = 0; lane < kForwardLanes; lane += lanes_of<A>()) {
      A* at = rows + row * kForwardLanes + lane;
      hn::Store(hn::Mul(hn::Load(d, at), hn::Load(d, decay + lane)), d, at);
    }
  }
}

/// Turns the piece's scores into weights, and lets what was summed before decay.
template <class A, class E>
HWY_INLINE void weigh_piece(const ForwardStep<A, E>& call) {
  HWY_ALIGN A decay[kForwardLanes];
  const A scale = call.bias.values == nullptr ? call.tile.score_scale : A{1};
  const Raised raised = raise_maximum(call, scale, decay);
  if (raised.large) reduce(call, scale);
  soften(call, scale, raised.large, decay);
  if (!raised.any) return;
  const ForwardTile<A>& tile = call.tile;
  decay_rows(tile.outputs, tile.head_dim, decay);  // `soften` has seen to the sum
  if (tile.has_earlier) decay_rows(tile.earlier, tile.head_dim + 1, decay);
}

}  // namespace longseq::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
