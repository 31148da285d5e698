// The forward pass's two products, of one tile or of two at once. Included once per instruction set.
#if defined(LONGSEQ_FORWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LONGSEQ_FORWARD_INL_H_
#undef LONGSEQ_FORWARD_INL_H_
#else
#define LONGSEQ_FORWARD_INL_H_
#endif

#include <algorithm>

#include "kernels/tiles/product-inl.h"
#include "kernels/tiles/softmax-inl.h"

HWY_BEFORE_NAMESPACE();
#if LONGSEQ_MAY_DOT
#pragma GCC target("avx512bf16")
#endif
namespace longseq::HWY_NAMESPACE {
using detail::Span;

constexpr std::int64_t kSumKeys = 128;  // values summed before they are added to the outputs, at most

/// Scores of `keys`, kRows at a time, for the columns of one step of lanes; raises block_maximum. Scores are
/// q·k, or with a bias the finished exponents of 2. `beside`: whose the third and the fourth column are.
template <int kRows, int kFirst, int kLast, Extra kExtra, class A, class E>
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
        Right{call.queries + lane, Constant<kForwardLanes>(), beside.queries - call.queries},
        call.tile.head_dim / Element<E>::kValues, *call.keys.coming);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int c = kFirst; c < kLast; ++c) {
        Vec<A> score = sums[r][c];
        A* HWY_RESTRICT at = scores[c / kColumns] + (key - keys.begin + r) * kForwardLanes + lane_of(c);
        if constexpr (kExtra == Extra::mask) {
          score = mask_score(call.tile.lanes, lane_of(c), key + r, score);
        } else if constexpr (kExtra == Extra::any) {
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

template <class A, class E>
HWY_INLINE Extra extra_of(const ForwardStep<A, E>& call, const Span& span) {
  if (call.add_to_scores || call.bias.values != nullptr) return Extra::any;
  return span.masked ? Extra::mask : Extra::none;
}

template <int kRows>
struct Score {
  template <int kFirst, int kLast, class A, class E>
  static HWY_INLINE void of_columns(Interval keys, const ForwardStep<A, E>& call, const Span& span,
                                    std::int64_t lane) {
    switch (extra_of(call, span)) {
      case Extra::any:
        return score_rows<kRows, kFirst, kLast, Extra::any>(call, call, span.masked, lane, keys);
      case Extra::none:
        if constexpr (kLast - kFirst > 1)
          return score_rows<kRows, kFirst, kLast, Extra::none>(call, call, span.masked, lane, keys);
        [[fallthrough]];  // a column alone is hardly ever seen in full
      case Extra::mask:
        return score_rows<kRows, kFirst, kLast, Extra::mask>(call, call, span.masked, lane, keys);
    }
  }
  template <class A, class E>
  static HWY_INLINE void run(Interval keys, const ForwardStep<A, E>& call, const Span& span,
                             const std::int64_t& lane, const Columns& columns) {
    if (columns == Columns::first) {
      of_columns<0, 1>(keys, call, span, lane);
    } else if (columns == Columns::second) {
      of_columns<1, 2>(keys, call, span, lane);
    } else {
      of_columns<0, kColumns>(keys, call, span, lane);
    }
  }
};
template <int kRows>
struct ScoreTwo {
  template <class A, class E>
  static HWY_INLINE void run(Interval keys, const ForwardStep<A, E>& call, const ForwardStep<A, E>& beside,
                             const std::int64_t& lane) {
    score_rows<kRows, 0, kWideColumns, Extra::none>(call, beside, false, lane, keys);
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
        Right{weights, Constant<kForwardLanes>(), across}, keys.size() / Element<E>::kValues);
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

}  // namespace longseq::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
