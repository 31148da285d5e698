// The hot kernel of the forward pass. Queries are the lanes: scores are products of keys × queries in tiles
// of 12 × 32 (product-inl.h), which need K and V as they lie in memory, unpacked, so that a ring step repacks
// nothing, and the softmax needs no horizontal operation. The values' product has the same form, 12
// dimensions × 32 queries.
//
// Bound: the FMA ports. Per key and query vector 2·head_dim FMAs and 13 operations of the softmax (a maximum,
// 11 of exp2, a sum), which share the two ports on Intel, a ceiling of 91 % at head_dim 64 and 95 % at 128;
// where additions have ports of their own, as on Zen 4, 94 % and 97 %. Measured: kernels/README.md.
#include "kernels/tiles/forward_tile.h"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/tiles/forward_tile.cpp"
#include <hwy/foreach_target.h>
// foreach_target comes first: what follows is compiled once per instruction set.
#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include "kernels/tiles/product-inl.h"
#include "kernels/tiles/softmax-inl.h"
#include "kernels/tiles/wide-inl.h"

HWY_BEFORE_NAMESPACE();
#if LONGSEQ_MAY_DOT
#pragma GCC target("avx512bf16")
#endif
namespace longseq::HWY_NAMESPACE {
using detail::kLog2E;
using detail::Span;
using detail::TileTurn;

constexpr std::int64_t kSumKeys = 128;  // values summed before they are added to the outputs, at most

/// Scores of `keys`, kRows at a time, for the columns of one step of lanes; raises block_maximum. Scores are
/// q·k, or with a bias the finished exponents of 2. kPlain: there is no mask, no bias, nothing to add.
/// `beside`: whose the third and the fourth column are.
template <int kRows, int kFirst, int kLast, bool kPlain, class A, class E>
HWY_NOINLINE void score_rows(const ForwardStep<A, E>& call, const ForwardStep<A, E>& beside, bool masked,
                             std::int64_t lane, Interval keys) {
  constexpr int kWidth = kLast > kColumns ? kWideColumns : kColumns;
  const Tag<A> d;
  const std::int64_t lanes = lanes_of<A>();
  const auto whose = [&](int c) HWY_ATTR -> auto& {
    return c < kColumns ? call : beside;
  };
  const auto lane_of = [&](int c) HWY_ATTR { return lane + c % kColumns * lanes; };
  Vec<A> maximum[kWidth];
#pragma GCC unroll 4
  for (int c = kFirst; c < kLast; ++c) maximum[c] = hn::Load(d, whose(c).block_maximum + lane_of(c));
  A* const scores[2] = {call.score_row(keys.begin), beside.score_row(keys.begin)};
  for (std::int64_t key = keys.begin; key < keys.end; key += kRows) {
    Vec<A> sums[kRows][kWidth];
    multiply<kRows, kFirst, kLast, A>(
        sums, Left{call.keys.k_row(key), call.keys.k_stride, Constant<1>()},
        Right<E>{call.queries + lane, kForwardLanes, beside.queries - call.queries},
        call.tile.head_dim / Element<E>::kValues, [&]() HWY_ATTR { call.keys.coming->fetch(); });
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int c = kFirst; c < kLast; ++c) {
        Vec<A> score = sums[r][c];
        A* HWY_RESTRICT at = scores[c / kColumns] + (key - keys.begin + r) * kForwardLanes + lane_of(c);
        if constexpr (!kPlain) {
          if (call.add_to_scores) score = hn::Add(score, hn::Load(d, at));
          score = finish_score(call, masked, lane_of(c), key + r, score);
        }
        hn::Store(score, d, at);
        maximum[c] = hn::Max(maximum[c], score);
      }
    }
  }
#pragma GCC unroll 4
  for (int c = kFirst; c < kLast; ++c) hn::Store(maximum[c], d, whose(c).block_maximum + lane_of(c));
}

/// Whether the scores of a span are what the product gives.
template <class A, class E>
HWY_INLINE bool is_plain(const ForwardStep<A, E>& call, const Span& span) {
  return !span.masked && !call.add_to_scores && call.bias.values == nullptr;
}

template <int kRows>
struct Score {
  template <class A, class E>
  static HWY_INLINE void run(Interval keys, const ForwardStep<A, E>& call, const Span& span,
                             const std::int64_t& lane, const Columns& columns) {
    if (columns == Columns::first) {
      score_rows<kRows, 0, 1, false>(call, call, span.masked, lane, keys);
    } else if (columns == Columns::second) {
      score_rows<kRows, 1, 2, false>(call, call, span.masked, lane, keys);
    } else if (is_plain(call, span)) {
      score_rows<kRows, 0, 2, true>(call, call, false, lane, keys);
    } else {
      score_rows<kRows, 0, 2, false>(call, call, span.masked, lane, keys);
    }
  }
};
template <int kRows>
struct ScoreTwo {
  template <class A, class E>
  static HWY_INLINE void run(Interval keys, const ForwardStep<A, E>& call, const ForwardStep<A, E>& beside,
                             const std::int64_t& lane) {
    if constexpr (kManyRegisters) score_rows<kRows, 0, kWideColumns, true>(call, beside, false, lane, keys);
  }
};

/// The scores of the piece, but for the keys `without`: of a span, all of it or a part.
template <class A, class E>
HWY_INLINE void score_piece(const ForwardStep<A, E>& call, Interval without = {}) {
  for (std::int64_t lane = 0; lane < kForwardLanes; lane += kColumns * lanes_of<A>()) {
    for (int s = 0; s < call.piece.span_count; ++s) {
      const Span& span = call.piece.spans[s];
      const Columns columns = columns_within<A>(lane, span.first_lane, span.last_lane);
      if (columns == Columns::none) continue;
      const bool whole = intersect(span.keys, without).empty();
      const Interval before{span.keys.begin, whole ? span.keys.end : without.begin};
      const Interval after{whole ? span.keys.end : without.end, span.keys.end};
      for (const Interval& keys : {before, after})
        if (!keys.empty()) in_groups<Score>(keys.begin, keys.end, call, span, lane, columns);
    }
  }
}

/// outputs[row] += Σ_keys weight · v[row], for dimensions `rows`, kRows at a time. The old outputs are added
/// last: shorter sums round less, and outputs loaded first would hold up the products. `beside`: as above.
template <int kRows, int kFirst, int kLast, class A, class E>
HWY_NOINLINE void add_values(const ForwardStep<A, E>& call, const ForwardStep<A, E>& beside,
                             std::int64_t lane, Interval keys, Interval rows) {
  constexpr int kWidth = kLast > kColumns ? kWideColumns : kColumns;
  const Tag<A> d;
  const std::int64_t lanes = lanes_of<A>();
  const E* weights = call.weight_row(keys.begin) + lane;
  const std::int64_t across = beside.weight_row(keys.begin) + lane - weights;
  A* const outputs[2] = {call.tile.outputs + lane, beside.tile.outputs + lane};
  for (std::int64_t row = rows.begin; row < rows.end; row += kRows) {
    Vec<A> sums[kRows][kWidth];
    multiply<kRows, kFirst, kLast, A>(
        sums, Left{call.keys.v_row(keys.begin) + row, Constant<1>(), call.keys.v_stride},
        Right<E>{weights, kForwardLanes, across}, keys.size() / Element<E>::kValues);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int c = kFirst; c < kLast; ++c) {
        A* HWY_RESTRICT at = outputs[c / kColumns] + (row + r) * kForwardLanes + c % kColumns * lanes;
        hn::Store(hn::Add(sums[r][c], hn::Load(d, at)), d, at);
      }
    }
  }
}

template <int kRows>
struct AddValues {
  template <class A, class E>
  static HWY_INLINE void run(Interval rows, const ForwardStep<A, E>& call, const ForwardStep<A, E>& beside,
                             const std::int64_t& lane, const Columns& columns, const Interval& keys) {
    if (columns == Columns::first) {
      add_values<kRows, 0, 1>(call, beside, lane, keys, rows);
    } else if (columns == Columns::second) {
      add_values<kRows, 1, 2>(call, beside, lane, keys, rows);
    } else if (columns == Columns::both) {
      add_values<kRows, 0, kColumns>(call, beside, lane, keys, rows);
    } else if constexpr (kManyRegisters && kRows <= kWideRows) {
      add_values<kRows, 0, kWideColumns>(call, beside, lane, keys, rows);
    }
  }
};

/// At most kSumKeys keys at a time, in parts alike, so that their weights and values are in the first-level
/// cache for all dimensions and few keys are never alone.
template <class A, class E>
HWY_INLINE void add_span(const ForwardStep<A, E>& call, const ForwardStep<A, E>& beside, Interval own,
                         std::int64_t lane, Columns columns) {
  const std::int64_t parts = (own.size() + kSumKeys - 1) / kSumKeys;
  const std::int64_t part = (own.size() + 2 * parts - 1) / (2 * parts) * 2;  // pairs stay together
  for (std::int64_t key = own.begin; key < own.end; key += part) {
    const Interval keys{key, std::min(key + part, own.end)};
    if (columns == Columns::four) {
      in_groups<AddValues, kWideRows>(0, call.tile.head_dim, call, beside, lane, columns, keys);
    } else {
      in_groups<AddValues>(0, call.tile.head_dim, call, beside, lane, columns, keys);
    }
  }
}

template <class A, class E>
HWY_INLINE void add_piece(const ForwardStep<A, E>& call) {
  for (std::int64_t lane = 0; lane < kForwardLanes; lane += kColumns * lanes_of<A>()) {
    for (int s = 0; s < call.piece.span_count; ++s) {
      const Span span = call.piece.joined(s);
      const Columns columns = columns_within<A>(lane, span.first_lane, span.last_lane);
      if (columns != Columns::none) add_span(call, call, span.keys, lane, columns);
    }
  }
}

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

/// The most keys that all queries of both tiles see, as far as plain products go.
template <class A>
Interval seen_by_both(const ForwardStep<A, A>& first, const ForwardStep<A, A>& second) {
  const auto whole = [](const ForwardStep<A, A>& call, const Span& span) {
    return is_plain(call, span) && span.first_lane == 0 && span.last_lane == kForwardLanes;
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
  const Interval both = kManyRegisters ? seen_by_both(first, second) : Interval{};
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
void finish_f32(const float* maximum, const float* sum, float* lse, float* factors) {
  finish(maximum, sum, lse, factors);
}
void finish_f64(const double* maximum, const double* sum, double* lse, double* factors) {
  finish(maximum, sum, lse, factors);
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
    attend_two(step(first).call, step(second).call);                                                  \
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
  void finish_rows(const A* maximum, const A* sum, A* lse, A* factors) {                             \
    HWY_DYNAMIC_DISPATCH(finish_##name)(maximum, sum, lse, factors);                                 \
  }                                                                                                  \
  }
LONGSEQ_DISPATCH(float, f32)
LONGSEQ_DISPATCH(double, f64)
#undef LONGSEQ_DISPATCH

HWY_EXPORT(attend_pairs);
namespace detail {
void attend_tile_by_pairs(ForwardTile<float>& tile, const KeyRows<Pair>& keys, const Piece& piece,
                          const TileBias<float>& bias, float* scores, Pair* weights) {
  HWY_DYNAMIC_DISPATCH(attend_pairs)(tile, keys, piece, bias, scores, weights);
}

}  // namespace detail
}  // namespace longseq
#endif
