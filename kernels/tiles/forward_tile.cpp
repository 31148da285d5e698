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

constexpr std::int64_t kSumKeys = 128;  // values summed before they are added to the outputs, at most

/// Scores of `keys`, kRows at a time, for the columns of one step of lanes; raises block_maximum. Scores are
/// q·k, or with a bias the finished exponents of 2. kPlain: there is no mask, no bias, nothing to add.
template <int kRows, int kFirst, int kLast, bool kPlain, class A, class E>
HWY_NOINLINE void score_rows(const ForwardStep<A, E>& call, bool masked, std::int64_t lane, Interval keys) {
  const Tag<A> d;
  const std::int64_t lanes = lanes_of<A>();
  Vec<A> maximum[kColumns];
#pragma GCC unroll 2
  for (int c = kFirst; c < kLast; ++c) maximum[c] = hn::Load(d, call.block_maximum + lane + c * lanes);
  A* HWY_RESTRICT scores = call.score_row(keys.begin) + lane;
  for (std::int64_t key = keys.begin; key < keys.end; key += kRows, scores += kRows * kForwardLanes) {
    Vec<A> sums[kRows][kColumns];
    multiply<kRows, kFirst, kLast, A>(sums, Left{call.keys.k_row(key), call.keys.k_stride, Constant<1>()},
                                      Right<E>{call.queries + lane, kForwardLanes},
                                      call.tile.head_dim / Element<E>::kValues,
                                      [&]() HWY_ATTR { call.keys.coming->fetch(); });
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int c = kFirst; c < kLast; ++c) {
        Vec<A> score = sums[r][c];
        A* at = scores + r * kForwardLanes + c * lanes;
        if constexpr (!kPlain) {
          if (call.add_to_scores) score = hn::Add(score, hn::Load(d, at));
          score = finish_score(call, masked, lane + c * lanes, key + r, score);
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
  static HWY_INLINE void run(Interval keys, const ForwardStep<A, E>& call, const Span& span,
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
HWY_INLINE void score_piece(const ForwardStep<A, E>& call) {
  for (std::int64_t lane = 0; lane < kForwardLanes; lane += kColumns * lanes_of<A>()) {
    for (int s = 0; s < call.piece.span_count; ++s) {
      const Span& span = call.piece.spans[s];
      const Columns columns = columns_within<A>(lane, span.first_lane, span.last_lane);
      if (columns != Columns::none)
        in_groups<Score>(span.keys.begin, span.keys.end, call, span, lane, columns);
    }
  }
}

/// outputs[row] += Σ_keys weight · v[row], for dimensions `rows`, kRows at a time. The old outputs are added
/// last: shorter sums round less, and outputs loaded first would hold up the products.
template <int kRows, int kFirst, int kLast, class A, class E>
HWY_NOINLINE void add_values(const ForwardStep<A, E>& call, std::int64_t lane, Interval keys, Interval rows) {
  const Tag<A> d;
  const std::int64_t lanes = lanes_of<A>();
  for (std::int64_t row = rows.begin; row < rows.end; row += kRows) {
    Vec<A> sums[kRows][kColumns];
    multiply<kRows, kFirst, kLast, A>(
        sums, Left{call.keys.v_row(keys.begin) + row, Constant<1>(), call.keys.v_stride},
        Right<E>{call.weight_row(keys.begin) + lane, kForwardLanes}, keys.size() / Element<E>::kValues);
    A* HWY_RESTRICT out = call.tile.outputs + row * kForwardLanes + lane;
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int c = kFirst; c < kLast; ++c) {
        A* at = out + r * kForwardLanes + c * lanes;
        hn::Store(hn::Add(sums[r][c], hn::Load(d, at)), d, at);
      }
    }
  }
}

template <int kRows>
struct AddValues {
  template <class A, class E>
  static HWY_INLINE void run(Interval rows, const ForwardStep<A, E>& call, const std::int64_t& lane,
                             const Columns& columns, const Interval& keys) {
    switch (columns) {
      case Columns::none:
        return;
      case Columns::first:
        return add_values<kRows, 0, 1>(call, lane, keys, rows);
      case Columns::second:
        return add_values<kRows, 1, 2>(call, lane, keys, rows);
      case Columns::both:
        return add_values<kRows, 0, 2>(call, lane, keys, rows);
    }
  }
};

/// At most kSumKeys keys at a time, in parts alike, so that their weights and values are in the first-level
/// cache for all dimensions and few keys are never alone.
template <class A, class E>
HWY_INLINE void add_piece(const ForwardStep<A, E>& call) {
  for (std::int64_t lane = 0; lane < kForwardLanes; lane += kColumns * lanes_of<A>()) {
    for (int s = 0; s < call.piece.span_count; ++s) {
      const Span span = call.piece.joined(s);
      const Columns columns = columns_within<A>(lane, span.first_lane, span.last_lane);
      if (columns == Columns::none) continue;
      const std::int64_t parts = (span.keys.size() + kSumKeys - 1) / kSumKeys;
      const std::int64_t part = (span.keys.size() + 2 * parts - 1) / (2 * parts) * 2;  // pairs stay together
      for (std::int64_t key = span.keys.begin; key < span.keys.end; key += part) {
        const Interval keys{key, std::min(key + part, span.keys.end)};
        in_groups<AddValues>(0, call.tile.head_dim, call, lane, columns, keys);
      }
    }
  }
}

template <class A, class E>
HWY_INLINE void attend_piece(ForwardTile<A>& tile, const KeyRows<E>& keys, const Piece& piece,
                             const TileBias<A>& bias, bool add_to_scores, A* scores, E* weights) {
  HWY_ALIGN A block_maximum[kForwardLanes];
  std::fill_n(block_maximum, kForwardLanes, -std::numeric_limits<A>::infinity());
  const ForwardStep<A, E> call{tile,         reinterpret_cast<const E*>(tile.queries),
                               keys,         piece,
                               bias,         add_to_scores,
                               scores,       weights,
                               block_maximum};
  score_piece(call);
  weigh_piece(call);
  add_piece(call);
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
  std::abort();  // pair_products() is never dot for this target
}
#endif

}  // namespace longseq::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace longseq {
HWY_EXPORT(attend_f32);
HWY_EXPORT(attend_f64);
HWY_EXPORT(attend_pairs);
HWY_EXPORT(finish_f32);
HWY_EXPORT(finish_f64);

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

void finish_rows(const float* maximum, const float* sum, float* lse, float* factors) {
  HWY_DYNAMIC_DISPATCH(finish_f32)(maximum, sum, lse, factors);
}
void finish_rows(const double* maximum, const double* sum, double* lse, double* factors) {
  HWY_DYNAMIC_DISPATCH(finish_f64)(maximum, sum, lse, factors);
}

}  // namespace detail
}  // namespace longseq
#endif
