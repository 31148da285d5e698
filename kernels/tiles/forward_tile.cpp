// The hot kernel of the forward pass. Queries are the lanes: scores are products of keys × queries in tiles
// of 12 × 32 (product-inl.h), which need K and V as they lie in memory, unpacked, so that a ring step repacks
// nothing, and the softmax needs no horizontal operation. The values' product has the same form, 12
// dimensions × 32 queries.
//
// Bound: the FMA ports. Per key and query vector 2·head_dim FMAs and one exp2 (8 operations on the same
// ports, 6 on those of additions): a ceiling of 94 % at head_dim 64 and 97 % at 128 where additions have
// ports of their own, as on Zen 4. Measured there: 89 % and 91 % (kernels/README.md).
#include "kernels/tiles/forward_tile.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/tiles/forward_tile.cpp"
#include <hwy/foreach_target.h>
// foreach_target comes first: what follows is compiled once per instruction set.
#include <hwy/highway.h>

#include "kernels/tiles/exp2-inl.h"
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
using detail::Span;
using detail::TileBias;

constexpr float kLargeScore = 48.0f;   // log2 e times a score of 33: above it f32 scores cost more than 1e-6
constexpr float kNoWeight = -30.0f;    // an exponent below it is a weight of less than 1e-9
constexpr std::int64_t kSumKeys = 96;  // values summed before they are added to the outputs
constexpr float kSlack = 8.0f;  // how far scores may pass the maximum before it is raised: weights up to 2^8

/// Everything about one call that its steps need. E: what products are made of, A itself or Pair.
template <class A, class E>
struct Call {
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

/// What to subtract from exponents: the maximum, or 0 for a row that has seen no key yet (−∞ − 0 is fine, −∞
/// − −∞ not).
template <class D, class V = hn::Vec<D>>
HWY_INLINE V base_of(D d, V maximum) {
  return hn::IfThenZeroElse(hn::Eq(maximum, hn::Set(d, -std::numeric_limits<hn::TFromD<D>>::infinity())),
                            maximum);
}

/// Fetches a share of the coming keys: as large a share as `keys` are of the piece's.
template <class A, class E>
HWY_INLINE void fetch(const Call<A, E>& call, Interval keys) {
  constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(A));
  const Interval coming = call.keys.coming;
  if (coming.empty()) return;
  const auto share = [&](std::int64_t key) {
    return coming.begin + (key - call.piece.keys.begin) * coming.size() / call.piece.keys.size();
  };
  for (std::int64_t key = share(keys.begin); key < share(keys.end); ++key) {
    for (std::int64_t d = 0; d < call.tile.head_dim; d += kLine) {
      __builtin_prefetch(call.keys.k_row(key) + d, 0, 2);
      __builtin_prefetch(call.keys.v_row(key) + d, 0, 2);
    }
  }
}

/// Scores of `keys`, kRows at a time, for the columns of one step of lanes; raises block_maximum. Scores are
/// q·k, or with a bias the finished exponents of 2. kPlain: there is no mask, no bias, nothing to add.
template <int kRows, int kFirst, int kLast, bool kPlain, class A, class E>
HWY_NOINLINE void score_rows(const Call<A, E>& call, bool masked, std::int64_t lane, Interval keys) {
  const Tag<A> d;
  const std::int64_t lanes = lanes_of<A>();
  Vec<A> maximum[kColumns];
#pragma GCC unroll 2
  for (int c = kFirst; c < kLast; ++c) maximum[c] = hn::Load(d, call.block_maximum + lane + c * lanes);
  A* HWY_RESTRICT scores = call.score_row(keys.begin) + lane;
  for (std::int64_t key = keys.begin; key < keys.end; key += kRows, scores += kRows * kForwardLanes) {
    if constexpr (kPlain) fetch(call, {key, key + kRows});
    Vec<A> sums[kRows][kColumns];
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int c = kFirst; c < kLast; ++c) sums[r][c] = hn::Zero(d);
    }
    multiply<kRows, kFirst, kLast, A>(sums, Left{call.keys.k_row(key), call.keys.k_stride, Constant<1>()},
                                      Right<E>{call.queries + lane, kForwardLanes},
                                      call.tile.head_dim / Element<E>::kValues);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int c = kFirst; c < kLast; ++c) {
        Vec<A> score = sums[r][c];
        A* at = scores + r * kForwardLanes + c * lanes;
        if constexpr (!kPlain) {
          if (call.add_to_scores) score = hn::Add(score, hn::Load(d, at));
          if (call.bias.values != nullptr) {
            score = hn::MulAdd(score, hn::Set(d, call.tile.score_scale),
                               distance_bias(call.tile.lanes, call.bias, lane + c * lanes, key + r));
          }
          if (masked) score = mask_score(call.tile.lanes, lane + c * lanes, key + r, score);
        }
        hn::Store(score, d, at);
        maximum[c] = hn::Max(maximum[c], score);
      }
    }
  }
#pragma GCC unroll 2
  for (int c = kFirst; c < kLast; ++c) hn::Store(maximum[c], d, call.block_maximum + lane + c * lanes);
}

template <int kRows>
struct Score {
  template <class A, class E>
  static HWY_INLINE void run(Interval keys, const Call<A, E>& call, const Span& span,
                             const std::int64_t& lane, const Columns& columns) {
    if (columns == Columns::first) {
      score_rows<kRows, 0, 1, false>(call, span.masked, lane, keys);
    } else if (columns == Columns::second) {
      score_rows<kRows, 1, 2, false>(call, span.masked, lane, keys);
    } else if (span.masked || call.add_to_scores || call.bias.values != nullptr) {
      score_rows<kRows, 0, 2, false>(call, span.masked, lane, keys);
    } else {
      score_rows<kRows, 0, 2, true>(call, false, lane, keys);
    }
  }
};

template <class A, class E>
HWY_INLINE void score_piece(const Call<A, E>& call) {
  for (std::int64_t lane = 0; lane < kForwardLanes; lane += kColumns * lanes_of<A>()) {
    for (int s = 0; s < call.piece.span_count; ++s) {
      const Span& span = call.piece.spans[s];
      const Columns columns = columns_within<A>(lane, span.first_lane, span.last_lane);
      if (columns != Columns::none)
        in_groups<Score>(span.keys.begin, span.keys.end, call, span, lane, columns);
    }
  }
}

/// outputs = outputs · decay.
template <class A, class E>
HWY_NOINLINE void decay_outputs(const Call<A, E>& call, const A* HWY_RESTRICT decay) {
  const Tag<A> d;
  for (std::int64_t row = 0; row < call.tile.head_dim; ++row) {
    for (std::int64_t lane = 0; lane < kForwardLanes; lane += lanes_of<A>()) {
      A* at = call.tile.outputs + row * kForwardLanes + lane;
      hn::Store(hn::Mul(hn::Load(d, at), hn::Load(d, decay + lane)), d, at);
    }
  }
}

/// outputs[row] += Σ_keys weight · v[row], for dimensions `rows`, kRows at a time. Sums begin at 0 every
/// kSumKeys keys, and the old outputs are added last: shorter sums round less, and outputs loaded first would
/// hold up the products.
template <int kRows, class A, class E>
HWY_NOINLINE void add_values(const Call<A, E>& call, std::int64_t lane, Interval rows) {
  const Tag<A> d;
  const std::int64_t lanes = lanes_of<A>();
  for (std::int64_t row = rows.begin; row < rows.end; row += kRows) {
    A* HWY_RESTRICT out = call.tile.outputs + row * kForwardLanes + lane;
    for (int s = 0; s < call.piece.span_count; ++s) {
      const Span span = call.piece.joined(s);
      const Columns columns = columns_within<A>(lane, span.first_lane, span.last_lane);
      for (std::int64_t key = span.keys.begin; columns != Columns::none && key < span.keys.end;
           key += kSumKeys) {
        const std::int64_t keys = std::min(kSumKeys, span.keys.end - key);
        Vec<A> sums[kRows][kColumns];
#pragma GCC unroll 12
        for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
          for (int c = 0; c < kColumns; ++c) sums[r][c] = hn::Zero(d);
        }
        multiply<kRows, A>(columns, sums, Left{call.keys.v_row(key) + row, Constant<1>(), call.keys.v_stride},
                           Right<E>{call.weight_row(key) + lane, kForwardLanes}, keys / Element<E>::kValues);
#pragma GCC unroll 12
        for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
          for (int c = 0; c < kColumns; ++c) {
            A* at = out + r * kForwardLanes + c * lanes;
            hn::Store(hn::Add(sums[r][c], hn::Load(d, at)), d, at);
          }
        }
      }
    }
  }
}

template <int kRows>
struct AddValues {
  template <class A, class E>
  static HWY_INLINE void run(Interval rows, const Call<A, E>& call, const std::int64_t& lane) {
    add_values<kRows>(call, lane, rows);
  }
};

struct Raised {
  bool any;    // some maximum moved: everything summed before must decay
  bool large;  // some maximum is so large that f32 scores cannot tell its weights well enough
};

/// Raises the running maximum, always a whole number, where the block's has passed it by more than kSlack,
/// and writes the decay 2^(old maximum − new maximum) of everything summed before. A maximum that lags keeps
/// weights within 2^kSlack, as exact as ever, and spares the outputs most of their multiplications (Dao et
/// al., FlashAttention-4).
template <class A, class E>
HWY_INLINE Raised raise_maximum(const Call<A, E>& call, A scale, A* HWY_RESTRICT decay) {
  const Tag<A> d;
  const Vec<A> slack = hn::Set(d, static_cast<A>(kSlack));
  const Vec<A> nothing = hn::Set(d, -std::numeric_limits<A>::infinity());
  const Vec<A> limit = hn::Set(d, static_cast<A>(kLargeScore));
  Raised raised{false, false};
  for (std::int64_t lane = 0; lane < kForwardLanes; lane += lanes_of<A>()) {
    const Vec<A> old_maximum = hn::Load(d, call.tile.maximum + lane);
    const Vec<A> block = hn::Mul(hn::Load(d, call.block_maximum + lane), hn::Set(d, scale));
    const auto passed = hn::Gt(block, hn::Add(old_maximum, slack));
    const Vec<A> maximum = hn::IfThenElse(passed, hn::Ceil(block), old_maximum);
    hn::Store(maximum, d, call.tile.maximum + lane);
    hn::Store(exp2_weight(d, old_maximum, hn::Set(d, A{1}), base_of(d, maximum)), d, decay + lane);
    raised.any = raised.any || !hn::AllFalse(d, passed);
    const Vec<A> largest = hn::Max(maximum, block);
    const auto counts = hn::And(hn::Ne(largest, nothing), hn::Gt(hn::Abs(largest), limit));
    raised.large = raised.large || !hn::AllFalse(d, counts);
  }
  raised.large = raised.large && sizeof(A) == sizeof(float);
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

/// Turns exponents of 2, scale·score − maximum, into weights and adds them to the sum. `subtract` is false
/// where the maximum has been subtracted already.
template <class A, class E>
HWY_NOINLINE void soften(const Call<A, E>& call, A scale, bool subtract, const A* HWY_RESTRICT decay) {
  const Tag<A> d;
  const Vec<A> scaling = hn::Set(d, scale);
  constexpr std::int64_t kWeightRows =
      2 / Element<E>::kValues * kForwardLanes;  // elements to the next two keys
  for (std::int64_t lane = 0; lane < kForwardLanes; lane += lanes_of<A>()) {
    const Interval keys = call.piece.group_keys[lane / kLaneGroup];
    const Vec<A> base = subtract ? base_of(d, hn::Load(d, call.tile.maximum + lane)) : hn::Zero(d);
    Vec<A> sum = hn::Zero(d),
           even = hn::Zero(d);  // the piece's, added to the old sum as one: shorter sums round less
    const A* HWY_RESTRICT scores = call.score_row(keys.begin) + lane;
    E* HWY_RESTRICT weights = call.weight_row(keys.begin) + lane;
    const auto weight = [&](const A* at) HWY_ATTR { return exp2_weight(d, hn::Load(d, at), scaling, base); };
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

/// Replaces the scores by exponents less the maximum, scale·score − maximum, those that carry weight
/// recomputed in f64: a score of 1000 in f32 is off by 6e-5, and its weight by as much. Rare, so plain.
HWY_NOINLINE void refine(const Call<float, float>& call) {
  const ForwardTile<float>& tile = call.tile;
  const double exact_scale = kLog2E / std::sqrt(static_cast<double>(tile.head_dim));
  const float scale = call.bias.values == nullptr ? tile.score_scale : 1.0f;
  for (std::int64_t lane = 0; lane < tile.lanes.count; ++lane) {
    const Interval keys = call.piece.group_keys[lane / kLaneGroup];
    const float maximum = std::isinf(tile.maximum[lane]) ? 0.0f : tile.maximum[lane];
    for (std::int64_t key = keys.begin; key < keys.end; ++key) {
      float& score = call.score_row(key)[lane];
      score = score * scale - maximum;
      if (!(score > kNoWeight)) continue;
      const float* k = call.keys.k_row(key);
      double dot = 0;
      for (std::int64_t d = 0; d < tile.head_dim; ++d) {
        dot += static_cast<double>(tile.queries[d * kForwardLanes + lane]) * static_cast<double>(k[d]);
      }
      double exponent = dot * exact_scale - static_cast<double>(maximum);
      if (call.bias.values != nullptr) {
        const std::int64_t distance = std::clamp<std::int64_t>(
            tile.lanes.position[lane] - key * call.bias.key_stride, -call.bias.reach, call.bias.reach);
        exponent += kLog2E * static_cast<double>(call.bias.values[tile.lanes.table[lane] + distance]);
      }
      score = static_cast<float>(exponent);
    }
  }
  // Lanes without a query took part in the scores, and go on taking part.
  for (std::int64_t lane = tile.lanes.count; lane < kForwardLanes; ++lane) {
    const Interval keys = call.piece.group_keys[lane / kLaneGroup];
    for (std::int64_t key = keys.begin; key < keys.end; ++key) call.score_row(key)[lane] = 0.0f;
  }
}
HWY_INLINE void refine(const Call<double, double>&) {}

template <class A, class E>
HWY_INLINE void attend_piece(ForwardTile<A>& tile, const KeyRows<E>& keys, const Piece& piece,
                             const TileBias<A>& bias, bool add_to_scores, A* scores, E* weights) {
  HWY_ALIGN A block_maximum[kForwardLanes];
  HWY_ALIGN A decay[kForwardLanes];
  std::fill_n(block_maximum, kForwardLanes, -std::numeric_limits<A>::infinity());
  const Call<A, E> call{tile,         reinterpret_cast<const E*>(tile.queries),
                        keys,         piece,
                        bias,         add_to_scores,
                        scores,       weights,
                        block_maximum};
  score_piece(call);
  const A scale = bias.values == nullptr ? tile.score_scale : A{1};
  const Raised raised = raise_maximum(call, scale, decay);
  bool refined = false;
  if constexpr (std::is_same_v<A, E>) {
    refined = raised.large && !add_to_scores;
    if (refined) refine(call);
  }
  soften(call, refined ? A{1} : scale, !refined, decay);
  if (raised.any) decay_outputs(call, decay);
  for (std::int64_t lane = 0; lane < kForwardLanes; lane += kColumns * lanes_of<A>()) {
    in_groups<AddValues>(0, tile.head_dim, call, lane);
  }
}

void attend_f32(ForwardTile<float>& tile, const KeyRows<float>& keys, const Piece& piece,
                const TileBias<float>& bias, bool add_to_scores, float* scores) {
  attend_piece(tile, keys, piece, bias, add_to_scores, scores, scores);
}
void attend_f64(ForwardTile<double>& tile, const KeyRows<double>& keys, const Piece& piece,
                const TileBias<double>& bias, bool add_to_scores, double* scores) {
  attend_piece(tile, keys, piece, bias, add_to_scores, scores, scores);
}
#if LONGSEQ_MAY_DOT
void attend_pairs(ForwardTile<float>& tile, const KeyRows<Pair>& keys, const Piece& piece,
                  const TileBias<float>& bias, float* scores, Pair* weights) {
  attend_piece(tile, keys, piece, bias, false, scores, weights);
}
#else
void attend_pairs(ForwardTile<float>&, const KeyRows<Pair>&, const Piece&, const TileBias<float>&, float*,
                  Pair*) {
  std::abort();  // dot_in_use() is false for this target
}
#endif

}  // namespace longseq::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace longseq {
HWY_EXPORT(attend_f32);
HWY_EXPORT(attend_f64);
HWY_EXPORT(attend_pairs);

namespace detail {

void attend_tile(ForwardTile<float>& tile, const KeyRows<float>& keys, const Piece& piece,
                 const TileBias<float>& bias, bool add_to_scores, float* scores) {
  HWY_DYNAMIC_DISPATCH(attend_f32)(tile, keys, piece, bias, add_to_scores, scores);
}
void attend_tile(ForwardTile<double>& tile, const KeyRows<double>& keys, const Piece& piece,
                 const TileBias<double>& bias, bool add_to_scores, double* scores) {
  HWY_DYNAMIC_DISPATCH(attend_f64)(tile, keys, piece, bias, add_to_scores, scores);
}

void attend_tile_by_pairs(ForwardTile<float>& tile, const KeyRows<Pair>& keys, const Piece& piece,
                          const TileBias<float>& bias, float* scores, Pair* weights) {
  HWY_DYNAMIC_DISPATCH(attend_pairs)(tile, keys, piece, bias, scores, weights);
}

}  // namespace detail
}  // namespace longseq
#endif
