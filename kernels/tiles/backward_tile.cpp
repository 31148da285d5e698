// The hot kernel of the backward pass. Scores and dP are products of keys × queries with queries as lanes, as
// in the forward pass, their results turned into weights and dS while still in registers; dV, dK and dQ are
// products with head_dim as lanes over the packed rows. All five are the register tile of product-inl.h.
//
// Bound: the FMA ports. Per key and query vector 5·head_dim FMAs and 14 operations of exp2 and dS: a ceiling
// of 96 % at head_dim 64 and 98 % at 128, a point more where additions have ports of their own. Measured,
// full, one thread: 88 % and 90 % of the peak on Zen 5, 89 % and 90 % on Zen 4, 79 % and 79 % on a Xeon
// (kernels/MEASUREMENTS.md).
#include "kernels/tiles/backward_tile.h"

#include <cstdlib>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/tiles/backward_tile.cpp"
#include <hwy/foreach_target.h>
// foreach_target comes first: what follows is compiled once per instruction set.
#include <hwy/highway.h>

#include "kernels/tiles/backward-inl.h"
#include "kernels/tiles/wide-inl.h"

HWY_BEFORE_NAMESPACE();
#if LONGSEQ_MAY_DOT
#pragma GCC target("avx512bf16")
#endif
namespace longseq::HWY_NAMESPACE {
using detail::BackwardScores;
using detail::kLog2E;
using detail::PairScores;
using detail::RowProduct;
using detail::RowSums;
using detail::Span;

/// The product of `keys`, kRows at a time, and one step of lanes, finished by Stage.
template <class Stage, int kRows, int kFirst, int kLast, class A, class E>
HWY_NOINLINE void lane_rows(const BackwardStep<A, E>& call, bool masked, std::int64_t lane, Interval keys) {
  constexpr int kWidth = kLast > kColumns ? kWideColumns : kColumns;
  const Tag<A> d;
  const std::int64_t lanes = lanes_of<A>();
  const std::int64_t first = call.lanes(lane), across = call.lanes(lane + kColumns * lanes) - first;
  for (std::int64_t key = keys.begin; key < keys.end; key += kRows) {
    Vec<A> sums[kRows][kWidth];
    const E* left = Stage::left(call) + (key - call.operands.origin) * call.operands.k_stride;
    multiply<kRows, kFirst, kLast, A>(sums, Left{left, call.operands.k_stride, Constant<1>()},
                                      Right{Stage::right(call) + first, Constant<kLaneBlock>(), across},
                                      call.steps(), call.tile.coming);
    A* HWY_RESTRICT out = Stage::out(call) + call.row(key) + lane;
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int c = kFirst; c < kLast; ++c) {
        hn::Store(Stage::finish(call, masked, lane + c * lanes, key + r, sums[r][c]), d,
                  out + r * kBackwardLanes + c * lanes);
      }
    }
  }
}

/// One stage over a span for one step of lanes, kRows keys at a time.
template <template <Extra> class Stage>
struct LaneRows {
  template <int kRows>
  struct Step {
    template <int kFirst, int kLast, class A, class E>
    static HWY_INLINE void of_columns(Interval keys, const BackwardStep<A, E>& call, const Span& span,
                                      std::int64_t lane) {
      switch (extra_of(call, span)) {
        case Extra::any:
          return lane_rows<Stage<Extra::any>, kRows, kFirst, kLast>(call, span.masked, lane, keys);
        case Extra::none:
          if constexpr (kLast - kFirst > 1)
            return lane_rows<Stage<Extra::none>, kRows, kFirst, kLast>(call, span.masked, lane, keys);
          [[fallthrough]];  // a column alone is hardly ever seen in full
        case Extra::mask:
          return lane_rows<Stage<Extra::mask>, kRows, kFirst, kLast>(call, span.masked, lane, keys);
      }
    }
    template <class A, class E>
    static HWY_INLINE void run(Interval keys, const BackwardStep<A, E>& call, const Span& span,
                               const std::int64_t& lane, const Columns& columns) {
      if (columns == Columns::first) {
        of_columns<0, 1>(keys, call, span, lane);
      } else if (columns == Columns::second) {
        of_columns<1, 2>(keys, call, span, lane);
      } else if (columns == Columns::both) {
        of_columns<0, kColumns>(keys, call, span, lane);
      } else if constexpr (kManyRegisters && kRows <= kWideRows) {
        of_columns<0, kWideColumns>(keys, call, span, lane);
      }
    }
  };
};

template <template <Extra> class Stage, class A, class E>
HWY_INLINE void lane_piece(const BackwardStep<A, E>& call) {
  const bool wide = makes_wide_products();
  const std::int64_t narrow = kColumns * lanes_of<A>(), step = wide ? kWideColumns * lanes_of<A>() : narrow;
  for (std::int64_t lane = 0; lane < kBackwardLanes; lane += step) {
    for (int s = 0; s < call.piece.span_count; ++s) {
      const Span& span = call.piece.spans[s];
      const Interval keys = span.keys;
      if (wide && span.first_lane <= lane && span.last_lane >= lane + step) {
        in_groups<LaneRows<Stage>::template Step, kWideRows>(keys.begin, keys.end, call, span, lane,
                                                             Columns::four);
        continue;
      }
      for (std::int64_t half = lane; half < lane + step; half += narrow) {
        const Columns columns = columns_within<A>(half, span.first_lane, span.last_lane);
        if (columns == Columns::none) continue;
        in_groups<LaneRows<Stage>::template Step>(keys.begin, keys.end, call, span, half, columns);
      }
    }
  }
}

/// The rows of a product with head_dim as lanes, for one, two or four columns of vectors from dimension `dim`
/// on. kAdd: to what they hold.
template <bool kAdd>
struct ProductRows {
  template <int kRows>
  struct Step {
    template <int kLast, bool kTransposed, class A, class E>
    static HWY_NOINLINE void columns(Interval rows, const RowProduct<A, E>& product, std::int64_t dim) {
      constexpr int kWidth = kLast > kColumns ? kWideColumns : kColumns;
      const Tag<A> d;
      const std::int64_t lanes = lanes_of<A>();
      constexpr std::int64_t kLeftRow = kTransposed ? 1 : kBackwardLanes / Element<E>::kValues;
      constexpr std::int64_t kLeftStep = kTransposed ? kBackwardLanes : 1;
      const std::int64_t out_row = product.out_row;
      const E* HWY_RESTRICT left = product.left + rows.begin * kLeftRow;
      A* HWY_RESTRICT out = product.out + rows.begin * out_row + dim;
      for (std::int64_t row = rows.begin; row < rows.end; row += kRows) {
        // The old sums are added last: loaded first they would hold up the products.
        Vec<A> sums[kRows][kWidth];
        multiply<kRows, 0, kLast, A>(sums, Left{left, Constant<kLeftRow>(), Constant<kLeftStep>()},
                                     Right{product.right + dim, product.right_row, kColumns * lanes},
                                     product.count);
#pragma GCC unroll 12
        for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
          for (int c = 0; c < kLast; ++c) {
            A* at = out + r * out_row + c * lanes;
            hn::Store(kAdd ? hn::Add(sums[r][c], hn::Load(d, at)) : sums[r][c], d, at);
          }
        }
        left += kRows * kLeftRow;
        out += kRows * out_row;
      }
    }
    template <int kLast, class A, class E>
    static HWY_INLINE void run_columns(Interval rows, const RowProduct<A, E>& product, std::int64_t dim) {
      product.transposed ? columns<kLast, true>(rows, product, dim)
                         : columns<kLast, false>(rows, product, dim);
    }
    template <class A, class E>
    static HWY_INLINE void run(Interval rows, const RowProduct<A, E>& product, const std::int64_t& dim,
                               const Columns& columns) {
      if (columns == Columns::first) {
        run_columns<1>(rows, product, dim);
      } else if (columns == Columns::both) {
        run_columns<kColumns>(rows, product, dim);
      } else if constexpr (kManyRegisters && kRows <= kWideRows) {
        run_columns<kWideColumns>(rows, product, dim);
      }
    }
  };
};

template <int kRows, class A, class E>
HWY_INLINE void add_columns(const RowProduct<A, E>& product, std::int64_t dim, Columns columns) {
  in_groups<ProductRows<true>::template Step, kRows>(0, product.added, product, dim, columns);
  in_groups<ProductRows<false>::template Step, kRows>(product.added, product.rows, product, dim, columns);
}

template <class A, class E>
HWY_INLINE void add_rows(const RowProduct<A, E>& product) {
  const std::int64_t lanes = lanes_of<A>();
  std::int64_t dim = 0;
  if (makes_wide_products()) {
    for (; dim + kWideColumns * lanes <= product.width; dim += kWideColumns * lanes)
      add_columns<kWideRows>(product, dim, Columns::four);
  }
  for (; dim < product.width; dim += kColumns * lanes)
    add_columns<kRowsAtOnce>(product, dim, dim + lanes < product.width ? Columns::both : Columns::first);
}

/// The scores of a whole piece as the left operands of the last three products: rows of keys for dv and dk,
/// and for dq read across.
template <class E>
struct LeftScores {
  const E* weights;
  const E* d_scores;
  const E* d_scores_keys;
};

/// dv += weights · do, dk += dS · q, dq += dSᵀ · k, span by span.
template <class A, class E>
HWY_INLINE void add_gradients(const BackwardStep<A, E>& call, const LeftScores<E>& left) {
  constexpr std::int64_t kValues = Element<E>::kValues;
  const BackwardOperands<E>& operands = call.operands;
  const std::int64_t width = call.tile.width, stride = call.tile.stride;
  for (int s = 0; s < call.piece.span_count; ++s) {
    const Span span = call.piece.joined(s);
    const Interval lanes{span.first_lane, span.last_lane};
    const Interval keys{span.keys.begin - operands.origin, span.keys.end - operands.origin};
    const std::int64_t first = lanes.begin / kValues, at = call.row(span.keys.begin) / kValues;
    const auto add = [&](RowSums<A>& sums, Interval rows, const E* own, bool transposed, const E* right,
                         std::int64_t right_row, std::int64_t count) HWY_ATTR {
      add_rows(RowProduct<A, E>{sums.rows + rows.begin * stride, stride, rows.size(),
                                sums.begin(rows, stride), own, transposed, right, right_row, count / kValues,
                                width});
    };
    add(call.gradients.dv, keys, left.weights + at + first, false,
        operands.d_o.first + first * operands.d_o.stride, operands.d_o.stride, lanes.size());
    add(call.gradients.dk, keys, left.d_scores + at + first, false,
        operands.queries.first + first * operands.queries.stride, operands.queries.stride, lanes.size());
    add(call.tile.dq, lanes, left.d_scores_keys + at + lanes.begin, true,
        operands.k_rows + keys.begin / kValues * operands.k_rows_stride, operands.k_rows_stride, keys.size());
  }
}

template <class A>
HWY_INLINE void backward_piece(const BackwardStep<A, A>& call) {
  lane_piece<Weigh>(call);
  lane_piece<Differentiate>(call);
  add_gradients(call, LeftScores<A>{call.weights, call.d_scores, call.d_scores});
}

/// 2^(the rest) in f64: it is a factor of every weight.
template <class A>
HWY_INLINE void split(const A* lse, BackwardTile<A>& tile) {
  const Wide wide;
  for (std::int64_t lane = 0; lane < kBackwardLanes; lane += lanes_of<double>()) {
    const auto own = load_wide(lse + lane);
    const auto exponent = hn::IfThenZeroElse(hn::IsInf(own), hn::Mul(own, hn::Set(wide, kLog2E)));
    const auto whole = hn::Round(exponent);
    store_wide(whole, tile.lse_whole + lane);
    store_wide(exp2_weight(wide, hn::Sub(whole, exponent)), tile.lse_factor + lane);
  }
  const Tag<A> d;
  tile.far = false;
  for (std::int64_t lane = 0; lane < kBackwardLanes; lane += lanes_of<A>()) {
    const Vec<A> whole = hn::Load(d, tile.lse_whole + lane);
    const TakenOff<Vec<A>> off = taken_off(d, whole, tile.score_scale);
    hn::Store(off.lowest, d, tile.lse_lowest + lane);
    hn::Store(off.shift, d, tile.lse_shift + lane);
    tile.far = tile.far || !hn::AllFalse(d, hn::Gt(hn::Abs(whole), hn::Set(d, Exp2<A>::kMostWhole)));
  }
}

#define LONGSEQ_DEFINE(A, name)                                                                    \
  void split_##name(const A* lse, BackwardTile<A>& tile) {                                         \
    split(lse, tile);                                                                              \
  }                                                                                                \
  void backward_##name(BackwardTile<A>& tile, const BackwardOperands<A>& operands,                 \
                       KeyGradients<A>& gradients, const Piece& piece, const TileBias<A>& bias,    \
                       bool add_to_scores, const BackwardScores<A>& scores) {                      \
    backward_piece<A>(                                                                             \
        {tile, operands, gradients, piece, bias, add_to_scores, scores.weights, scores.d_scores}); \
  }                                                                                                \
  void add_rows_##name(const RowProduct<A>& product) {                                             \
    add_rows(product);                                                                             \
  }
LONGSEQ_DEFINE(float, f32)
LONGSEQ_DEFINE(double, f64)
#undef LONGSEQ_DEFINE

#if LONGSEQ_MAY_DOT
/// Turns the scores of the piece's spans into pairs.
HWY_NOINLINE void pair_scores(const BackwardStep<float, Pair>& call, const PairScores& pairs) {
  const Tag<float> d;
  for (int s = 0; s < call.piece.span_count; ++s) {
    const Span span = call.piece.joined(s);
    for (std::int64_t key = span.keys.begin; key < span.keys.end; key += 2) {
      for (std::int64_t lane = span.first_lane; lane < span.last_lane; lane += lanes_of<float>()) {
        const std::int64_t at = call.row(key) + lane, below = at + kBackwardLanes;
        store_lane_pairs(hn::Load(d, call.weights + at), pairs.weights + at / 2);
        store_lane_pairs(hn::Load(d, call.weights + below), pairs.weights + below / 2);
        const Vec<float> first = hn::Load(d, call.d_scores + at), second = hn::Load(d, call.d_scores + below);
        store_lane_pairs(first, pairs.d_scores + at / 2);
        store_lane_pairs(second, pairs.d_scores + below / 2);
        hn::Store(pairs_of(first, second), Tag<std::uint32_t>(),
                  &pairs.d_scores_keys[call.row(key) / 2 + lane].bits);
      }
    }
  }
}

void backward_pairs(BackwardTile<float>& tile, const BackwardOperands<Pair>& operands,
                    KeyGradients<float>& gradients, const Piece& piece, const TileBias<float>& bias,
                    const BackwardScores<float>& scores, const PairScores& pairs) {
  const BackwardStep<float, Pair> call{tile, operands, gradients,      piece,
                                       bias, false,    scores.weights, scores.d_scores};
  lane_piece<Weigh>(call);
  lane_piece<Differentiate>(call);
  pair_scores(call, pairs);
  add_gradients(call, LeftScores<Pair>{pairs.weights, pairs.d_scores, pairs.d_scores_keys});
}
#else
void backward_pairs(BackwardTile<float>&, const BackwardOperands<Pair>&, KeyGradients<float>&, const Piece&,
                    const TileBias<float>&, const BackwardScores<float>&, const PairScores&) {
  std::abort();  // pair_products() is never dot for this target
}
#endif

}  // namespace longseq::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace longseq {

#define LONGSEQ_DISPATCH(A, name)                                                                            \
  HWY_EXPORT(split_##name);                                                                                  \
  HWY_EXPORT(backward_##name);                                                                               \
  HWY_EXPORT(add_rows_##name);                                                                               \
  namespace detail {                                                                                         \
  void split_lse(const A* lse, BackwardTile<A>& tile) {                                                      \
    HWY_DYNAMIC_DISPATCH(split_##name)(lse, tile);                                                           \
  }                                                                                                          \
  void backward_tile(BackwardTile<A>& tile, const BackwardOperands<A>& operands, KeyGradients<A>& gradients, \
                     const Piece& piece, const TileBias<A>& bias, bool add_to_scores,                        \
                     const BackwardScores<A>& scores) {                                                      \
    HWY_DYNAMIC_DISPATCH(backward_##name)(tile, operands, gradients, piece, bias, add_to_scores, scores);    \
  }                                                                                                          \
  void add_row_product(const RowProduct<A>& product) {                                                       \
    HWY_DYNAMIC_DISPATCH(add_rows_##name)(product);                                                          \
  }                                                                                                          \
  }
LONGSEQ_DISPATCH(float, f32)
LONGSEQ_DISPATCH(double, f64)
#undef LONGSEQ_DISPATCH

HWY_EXPORT(backward_pairs);
namespace detail {
void backward_tile_by_pairs(BackwardTile<float>& tile, const BackwardOperands<Pair>& operands,
                            KeyGradients<float>& gradients, const Piece& piece, const TileBias<float>& bias,
                            const BackwardScores<float>& scores, const PairScores& pairs) {
  HWY_DYNAMIC_DISPATCH(backward_pairs)(tile, operands, gradients, piece, bias, scores, pairs);
}
}  // namespace detail

}  // namespace longseq
#endif
