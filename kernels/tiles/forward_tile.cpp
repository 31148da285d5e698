// The hot kernel of the forward pass. Queries are the lanes: scores are products of keys × queries in tiles
// of 12 × 32 (product-inl.h), which need K and V as they lie in memory, unpacked, so that a ring step repacks
// nothing, and the softmax needs no horizontal operation. The values' product has the same form, 12
// dimensions × 32 queries. Where wide products are made, what two neighbouring tiles both see is multiplied 6
// × 64: the plain scores of their longest run of keys, and values where that is all they see of the piece.
//
// Bound: the FMA ports. Per key and query vector 2·head_dim FMAs and 13 operations of the softmax (a maximum,
// 11 of exp2, a sum), which share the two ports on Intel, a ceiling of 91 % at head_dim 64 and 95 % at 128;
// where additions have ports of their own, as on Zen 4, 94 % and 97 %. Measured, full, one thread: 89 % and
// 92 % of the peak on Zen 5, 87 % and 89 % on Zen 4, 78 % and 82 % on a Xeon (kernels/MEASUREMENTS.md).
#include "kernels/tiles/forward_tile.h"

#include <algorithm>
#include <cstdlib>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/tiles/forward_tile.cpp"
#include <hwy/foreach_target.h>
// foreach_target comes first: what follows is compiled once per instruction set.
#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include "kernels/tiles/forward-inl.h"
#include "kernels/tiles/wide-inl.h"

HWY_BEFORE_NAMESPACE();
#if LONGSEQ_MAY_DOT
#pragma GCC target("avx512bf16")
#endif
namespace longseq::HWY_NAMESPACE {
using detail::kLog2E;
using detail::Span;
using detail::TileTurn;

/// A tile's step through the pass, and room for its maxima.
template <class A, class E>
struct TileStep {
  HWY_ALIGN A block_maximum[kForwardLanes];
  const ForwardStep<A, E> call;

  TileStep(ForwardTile<A>& tile, const KeyRows<E>& keys, const Piece& piece, const TileBias<A>& bias,
           bool add_to_scores, A* scores, E* weights)
      : call{tile,         reinterpret_cast<const E*>(tile.queries),
             keys,         piece,
             bias,         add_to_scores,
             scores,       weights,
             block_maximum} {
    std::fill_n(block_maximum, kForwardLanes, -std::numeric_limits<A>::infinity());
  }
  TileStep(const TileStep&) = delete;
  TileStep& operator=(const TileStep&) = delete;
};

template <class A, class E>
HWY_INLINE void attend_piece(const ForwardStep<A, E>& call) {
  score_piece(call);
  weigh_piece(call);
  add_piece(call);
}

/// The longest run of keys that all queries of both tiles see, as far as plain products go.
template <class A>
Interval seen_by_both(const ForwardStep<A, A>& first, const ForwardStep<A, A>& second) {
  const auto whole = [](const ForwardStep<A, A>& call, const Span& span) HWY_ATTR {
    return extra_of(call, span) == Extra::none && span.first_lane == 0 && span.last_lane == kForwardLanes;
  };
  Interval most;
  for (int s = 0; s < first.piece.span_count; ++s) {
    if (!whole(first, first.piece.spans[s])) continue;
    for (int t = 0; t < second.piece.span_count; ++t) {
      if (!whole(second, second.piece.spans[t])) continue;
      const Interval both = intersect(first.piece.spans[s].keys, second.piece.spans[t].keys);
      if (both.size() > most.size()) most = both;
    }
  }
  return most;
}

/// Both tiles at once, as far as they see the same keys. Whether a tile has another beside it may depend on
/// the number of threads: each sum is made as if it had none.
template <class A>
HWY_INLINE void attend_two(const ForwardStep<A, A>& first, const ForwardStep<A, A>& second) {
  const Interval both = seen_by_both(first, second);
  score_piece(first, both);
  score_piece(second, both);
  for (std::int64_t lane = 0; lane < kForwardLanes && !both.empty(); lane += kColumns * lanes_of<A>())
    in_groups<ScoreTwo, kWideRows>(both.begin, both.end, first, second, lane);
  weigh_piece(first);
  weigh_piece(second);
  const auto is_one_span = [&](const ForwardStep<A, A>& call) {
    return call.piece.span_count == 1 && call.piece.spans[0].keys == both;
  };
  if (is_one_span(first) && is_one_span(second)) {
    for (std::int64_t lane = 0; lane < kForwardLanes; lane += kColumns * lanes_of<A>())
      add_span(first, second, both, lane, Columns::four);
  } else {
    add_piece(first);
    add_piece(second);
  }
}

template <class A>
HWY_INLINE void put_outputs_aside(ForwardTile<A>& tile) {
  const Tag<A> d;
  for (std::int64_t i = 0; i < (tile.head_dim + 1) * kForwardLanes; i += lanes_of<A>()) {
    const Vec<A> now = hn::Load(d, tile.outputs + i);
    hn::Store(tile.has_earlier ? hn::Add(now, hn::Load(d, tile.earlier + i)) : now, d, tile.earlier + i);
    hn::Store(hn::Zero(d), d, tile.outputs + i);
  }
  tile.has_earlier = true;
  tile.pieces = 0;
}

template <class A>
HWY_INLINE void take_outputs_back(ForwardTile<A>& tile) {
  if (!tile.has_earlier) return;
  const Tag<A> d;
  for (std::int64_t i = 0; i < (tile.head_dim + 1) * kForwardLanes; i += lanes_of<A>())
    hn::Store(hn::Add(hn::Load(d, tile.outputs + i), hn::Load(d, tile.earlier + i)), d, tile.outputs + i);
  tile.has_earlier = false;
}

/// lse in f64: a maximum of some hundreds would take the bits of the sum's logarithm.
template <class A>
HWY_INLINE void finish(const A* maximum, const A* sums, A* lse, A* factors) {
  const Wide wide;
  const auto nothing = hn::Set(wide, -std::numeric_limits<double>::infinity());
  for (std::int64_t lane = 0; lane < kForwardLanes; lane += lanes_of<double>()) {
    const auto sum = load_wide(sums + lane);
    const auto log = hn::MulAdd(load_wide(maximum + lane), hn::Set(wide, 1 / kLog2E), hn::Log(wide, sum));
    const auto finite = hn::IfThenElse(hn::IsFinite(sum), log, sum);  // hn::Log knows no other numbers
    store_wide(hn::IfThenElse(hn::Eq(sum, hn::Zero(wide)), nothing, finite), lse + lane);
  }
  const Tag<A> d;
  for (std::int64_t lane = 0; lane < kForwardLanes; lane += lanes_of<A>()) {
    const Vec<A> sum = hn::Load(d, sums + lane);
    hn::Store(hn::IfThenElseZero(hn::Ne(sum, hn::Zero(d)), hn::Div(hn::Set(d, A{1}), sum)), d,
              factors + lane);
  }
}

#define LONGSEQ_DEFINE(A, name)                                                                       \
  void attend_##name(ForwardTile<A>& tile, const KeyRows<A>& keys, const Piece& piece,                \
                     const TileBias<A>& bias, bool add_to_scores, A* scores) {                        \
    attend_piece(TileStep<A, A>(tile, keys, piece, bias, add_to_scores, scores, scores).call);        \
  }                                                                                                   \
  void attend_two_##name(const TileTurn<A>& first, const TileTurn<A>& second, const KeyRows<A>& keys, \
                         const TileBias<A>& bias) {                                                   \
    const auto step = [&](const TileTurn<A>& turn) HWY_ATTR {                                         \
      return TileStep<A, A>(turn.tile, keys, turn.piece, bias, false, turn.scores, turn.scores);      \
    };                                                                                                \
    if constexpr (kManyRegisters) {                                                                   \
      attend_two(step(first).call, step(second).call);                                                \
    } else {                                                                                          \
      std::abort(); /* this target makes no wide products */                                          \
    }                                                                                                 \
  }                                                                                                   \
  void put_aside_##name(ForwardTile<A>& tile) {                                                       \
    put_outputs_aside(tile);                                                                          \
  }                                                                                                   \
  void take_back_##name(ForwardTile<A>& tile) {                                                       \
    take_outputs_back(tile);                                                                          \
  }                                                                                                   \
  void finish_##name(const A* maximum, const A* sum, A* lse, A* factors) {                            \
    finish(maximum, sum, lse, factors);                                                               \
  }
LONGSEQ_DEFINE(float, f32)
LONGSEQ_DEFINE(double, f64)
#undef LONGSEQ_DEFINE
#if LONGSEQ_MAY_DOT
void attend_pairs(ForwardTile<float>& tile, const KeyRows<Pair>& keys, const Piece& piece,
                  const TileBias<float>& bias, float* scores, Pair* weights) {
  attend_piece(TileStep<float, Pair>(tile, keys, piece, bias, false, scores, weights).call);
}
#else
void attend_pairs(ForwardTile<float>&, const KeyRows<Pair>&, const Piece&, const TileBias<float>&, float*,
                  Pair*) {
  std::abort();  // pair_products() is never dot for this target
}
#endif

}  // namespace longseq::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace longseq {
#define LONGSEQ_DISPATCH(A, name)                                                                    \
  HWY_EXPORT(attend_##name);                                                                         \
  HWY_EXPORT(attend_two_##name);                                                                     \
  HWY_EXPORT(put_aside_##name);                                                                      \
  HWY_EXPORT(take_back_##name);                                                                      \
  HWY_EXPORT(finish_##name);                                                                         \
  namespace detail {                                                                                 \
  void attend_tile(ForwardTile<A>& tile, const KeyRows<A>& keys, const Piece& piece,                 \
                   const TileBias<A>& bias, bool add_to_scores, A* scores) {                         \
    HWY_DYNAMIC_DISPATCH(attend_##name)(tile, keys, piece, bias, add_to_scores, scores);             \
  }                                                                                                  \
  void attend_two_tiles(const TileTurn<A>& first, const TileTurn<A>& second, const KeyRows<A>& keys, \
                        const TileBias<A>& bias) {                                                   \
    HWY_DYNAMIC_DISPATCH(attend_two_##name)(first, second, keys, bias);                              \
  }                                                                                                  \
  void put_aside(ForwardTile<A>& tile) {                                                             \
    HWY_DYNAMIC_DISPATCH(put_aside_##name)(tile);                                                    \
  }                                                                                                  \
  void take_back(ForwardTile<A>& tile) {                                                             \
    HWY_DYNAMIC_DISPATCH(take_back_##name)(tile);                                                    \
  }                                                                                                  \
  void finish_rows(const A* maximum, const A* sum, A* lse, A* factors) {                             \
    HWY_DYNAMIC_DISPATCH(finish_##name)(maximum, sum, lse, factors);                                 \
  }                                                                                                  \
  }
LONGSEQ_DISPATCH(float, f32)
LONGSEQ_DISPATCH(double, f64)
#undef LONGSEQ_DISPATCH

HWY_EXPORT(attend_pairs);
HWY_EXPORT(makes_wide_products);
namespace detail {
bool makes_wide_products() {
  return HWY_DYNAMIC_DISPATCH(makes_wide_products)();
}
void attend_tile_by_pairs(ForwardTile<float>& tile, const KeyRows<Pair>& keys, const Piece& piece,
                          const TileBias<float>& bias, float* scores, Pair* weights) {
  HWY_DYNAMIC_DISPATCH(attend_pairs)(tile, keys, piece, bias, scores, weights);
}

}  // namespace detail
}  // namespace longseq
#endif
