// The hot kernel of the backward pass. Scores and dP are products of keys × queries with queries as lanes, as
// in the forward pass, their results turned into weights and dS while still in registers; dV, dK and dQ are
// products with head_dim as lanes over the packed rows. All five are the register tile of product-inl.h.
//
// Bound: the FMA ports. Per key and query vector 5·head_dim FMAs and about 9 operations on the same ports for
// exp2 and dS: a ceiling of 97 % at head_dim 64 and 98.5 % at 128. Measured: kernels/README.md.
#include "kernels/tiles/backward_tile.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/tiles/backward_tile.cpp"
#include <hwy/foreach_target.h>
// foreach_target comes first: what follows is compiled once per instruction set.
#include <hwy/highway.h>

#include "kernels/tiles/exp2-inl.h"
#include "kernels/tiles/product-inl.h"
#include "kernels/tiles/score-inl.h"

HWY_BEFORE_NAMESPACE();
namespace longseq::HWY_NAMESPACE {
using detail::BackwardTile;
using detail::GradientRows;
using detail::kBackwardLanes;
using detail::kLaneBlock;
using detail::Piece;
using detail::RowProduct;
using detail::Span;
using detail::TileBias;

/// Everything about one call that its steps need.
template <class A>
struct Call {
  const BackwardTile<A>& tile;
  const GradientRows<A>& keys;
  const Piece& piece;
  const TileBias<A>& bias;
  bool add_to_scores;
  A* HWY_RESTRICT weights;
  A* HWY_RESTRICT d_scores;

  std::int64_t row(std::int64_t key) const { return (key - piece.keys.begin) * kBackwardLanes; }
  std::int64_t lanes(std::int64_t lane) const {
    return lane / kLaneBlock * tile.head_dim * kLaneBlock + lane % kLaneBlock;
  }
  std::int64_t packed(std::int64_t key) const { return (key - keys.origin) * tile.stride; }
};

/// weights = 2^(scale·q·k + bias − lse), 0 where not visible. kPlain: no mask, no bias, nothing to add.
template <bool kPlain>
struct Weigh {
  template <class A>
  static HWY_INLINE Vec<A> finish(const Call<A>& call, bool masked, std::int64_t lane, std::int64_t key,
                                  Vec<A> score) {
    const Tag<A> d;
    Vec<A> offset = hn::Load(d, call.tile.lse + lane);
    if constexpr (!kPlain) {
      if (call.add_to_scores) score = hn::Add(score, hn::Load(d, call.d_scores + call.row(key) + lane));
      if (call.bias.values != nullptr)
        offset = hn::Sub(offset, distance_bias(call.tile.lanes, call.bias, lane, key));
    }
    Vec<A> exponent = hn::MulSub(score, hn::Set(d, call.tile.score_scale), offset);
    if constexpr (!kPlain) {
      if (masked) exponent = mask_score(call.tile.lanes, lane, key, exponent);
    }
    return exp2_weight(d, exponent);
  }
  template <class A>
  static HWY_INLINE const A* left(const Call<A>& call) {
    return call.keys.k;
  }
  template <class A>
  static HWY_INLINE const A* right(const Call<A>& call) {
    return call.tile.query_lanes;
  }
  template <class A>
  static HWY_INLINE A* out(const Call<A>& call) {
    return call.weights;
  }
};

/// d_scores = weights · (do·v − delta).
template <bool kPlain>
struct Differentiate {
  template <class A>
  static HWY_INLINE Vec<A> finish(const Call<A>& call, bool /*masked*/, std::int64_t lane, std::int64_t key,
                                  Vec<A> d_weight) {
    const Tag<A> d;
    const Vec<A> weight = hn::Load(d, call.weights + call.row(key) + lane);
    return hn::Mul(weight, hn::Sub(d_weight, hn::Load(d, call.tile.delta + lane)));
  }
  template <class A>
  static HWY_INLINE const A* left(const Call<A>& call) {
    return call.keys.v;
  }
  template <class A>
  static HWY_INLINE const A* right(const Call<A>& call) {
    return call.tile.d_o_lanes;
  }
  template <class A>
  static HWY_INLINE A* out(const Call<A>& call) {
    return call.d_scores;
  }
};

/// The product of `keys`, kRows at a time, and one step of lanes, finished by Stage.
template <class Stage, int kRows, int kFirst, int kLast, class A>
HWY_NOINLINE void lane_rows(const Call<A>& call, bool masked, std::int64_t lane, Interval keys) {
  const Tag<A> d;
  const std::int64_t lanes = lanes_of<A>();
  for (std::int64_t key = keys.begin; key < keys.end; key += kRows) {
    Vec<A> sums[kRows][kColumns];
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int c = kFirst; c < kLast; ++c) sums[r][c] = hn::Zero(d);
    }
    multiply<kRows, kFirst, kLast, A>(
        sums, Left{Stage::left(call) + call.packed(key), call.tile.stride, Constant<1>()},
        {Stage::right(call) + call.lanes(lane), kLaneBlock}, call.tile.head_dim);
    A* HWY_RESTRICT out = Stage::out(call) + call.row(key) + lane;
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int c = kFirst; c < kLast; ++c) {
        hn::Store(Stage::finish(call, masked, lane + c * lanes, key + r, sums[r][c]), d,
                  out + r * kBackwardLanes + c * lanes);
      }
    }
  }
}

/// One stage over a span for one step of lanes, kRows keys at a time.
template <template <bool> class Stage>
struct LaneRows {
  template <int kRows>
  struct Step {
    template <class A>
    static HWY_INLINE void run(Interval keys, const Call<A>& call, const Span& span, const std::int64_t& lane,
                               const Columns& columns) {
      if (columns == Columns::first) {
        lane_rows<Stage<false>, kRows, 0, 1>(call, span.masked, lane, keys);
      } else if (columns == Columns::second) {
        lane_rows<Stage<false>, kRows, 1, 2>(call, span.masked, lane, keys);
      } else if (span.masked || call.add_to_scores || call.bias.values != nullptr) {
        lane_rows<Stage<false>, kRows, 0, 2>(call, span.masked, lane, keys);
      } else {
        lane_rows<Stage<true>, kRows, 0, 2>(call, false, lane, keys);
      }
    }
  };
};

template <template <bool> class Stage, class A>
HWY_INLINE void lane_piece(const Call<A>& call) {
  for (std::int64_t lane = 0; lane < kBackwardLanes; lane += kColumns * lanes_of<A>()) {
    for (int s = 0; s < call.piece.span_count; ++s) {
      const Span& span = call.piece.spans[s];
      const Columns columns = columns_within<A>(lane, span.first_lane, span.last_lane);
      if (columns == Columns::none) continue;
      in_groups<LaneRows<Stage>::template Step>(span.keys.begin, span.keys.end, call, span, lane, columns);
    }
  }
}

/// The rows of a product with head_dim as lanes, for one or both columns of vectors from dimension `dim` on.
template <int kRows>
struct AddRows {
  template <int kLast, bool kTransposed, class A>
  static HWY_NOINLINE void columns(Interval rows, const RowProduct<A>& product, std::int64_t dim) {
    const Tag<A> d;
    const std::int64_t lanes = lanes_of<A>();
    constexpr std::int64_t kLeftRow = kTransposed ? 1 : kBackwardLanes;
    constexpr std::int64_t kLeftStep = kTransposed ? kBackwardLanes : 1;
    const std::int64_t out_row = product.out_row;
    const A* HWY_RESTRICT left = product.left + rows.begin * kLeftRow;
    A* HWY_RESTRICT out = product.out + rows.begin * out_row + dim;
    for (std::int64_t row = rows.begin; row < rows.end; row += kRows) {
      // From 0, with the old sums added last: loaded first they would hold up the products.
      Vec<A> sums[kRows][kColumns];
#pragma GCC unroll 12
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
        for (int c = 0; c < kLast; ++c) sums[r][c] = hn::Zero(d);
      }
      multiply<kRows, 0, kLast>(sums, Left{left, Constant<kLeftRow>(), Constant<kLeftStep>()},
                                Right<A>{product.right + dim, product.right_row}, product.count);
#pragma GCC unroll 12
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
        for (int c = 0; c < kLast; ++c) {
          A* at = out + r * out_row + c * lanes;
          hn::Store(hn::Add(sums[r][c], hn::Load(d, at)), d, at);
        }
      }
      left += kRows * kLeftRow;
      out += kRows * out_row;
    }
  }
  template <class A>
  static HWY_INLINE void run(Interval rows, const RowProduct<A>& product, const std::int64_t& dim) {
    const bool both = dim + lanes_of<A>() < product.width;
    if (product.transposed) {
      both ? columns<2, true, A>(rows, product, dim) : columns<1, true, A>(rows, product, dim);
    } else {
      both ? columns<2, false, A>(rows, product, dim) : columns<1, false, A>(rows, product, dim);
    }
  }
};

template <class A>
HWY_INLINE void add_rows(const RowProduct<A>& product) {
  for (std::int64_t dim = 0; dim < product.width; dim += kColumns * lanes_of<A>())
    in_groups<AddRows>(0, product.rows, product, dim);
}

template <class A>
HWY_INLINE void backward_piece(const Call<A>& call) {
  lane_piece<Weigh>(call);
  lane_piece<Differentiate>(call);
  const BackwardTile<A>& tile = call.tile;
  const std::int64_t width = tile.width, stride = tile.stride;
  for (int s = 0; s < call.piece.span_count; ++s) {
    const Span span = call.piece.joined(s);
    const std::int64_t first = span.first_lane, count = span.last_lane - first;
    const std::int64_t packed = call.packed(span.keys.begin);
    const A* weights = call.weights + call.row(span.keys.begin) + first;
    const A* d_scores = call.d_scores + call.row(span.keys.begin) + first;
    add_rows<A>({call.keys.dv + packed, stride, span.keys.size(), weights, false,
                 tile.d_o_rows + first * stride, stride, count, width});
    add_rows<A>({call.keys.dk + packed, stride, span.keys.size(), d_scores, false,
                 tile.query_rows + first * stride, stride, count, width});
    add_rows<A>({tile.dq_rows + first * stride, stride, count, d_scores, true, call.keys.k + packed, stride,
                 span.keys.size(), width});
  }
}

#define LONGSEQ_DEFINE(A, name)                                                                      \
  void backward_##name(const BackwardTile<A>& tile, const GradientRows<A>& keys, const Piece& piece, \
                       const TileBias<A>& bias, bool add_to_scores, A* weights, A* d_scores) {       \
    backward_piece<A>({tile, keys, piece, bias, add_to_scores, weights, d_scores});                  \
  }                                                                                                  \
  void add_rows_##name(const RowProduct<A>& product) {                                               \
    add_rows(product);                                                                               \
  }
LONGSEQ_DEFINE(float, f32)
LONGSEQ_DEFINE(double, f64)
#undef LONGSEQ_DEFINE

}  // namespace longseq::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace longseq {

#define LONGSEQ_DISPATCH(A, name)                                                                     \
  HWY_EXPORT(backward_##name);                                                                        \
  HWY_EXPORT(add_rows_##name);                                                                        \
  namespace detail {                                                                                  \
  void backward_tile(BackwardTile<A>& tile, const GradientRows<A>& keys, const Piece& piece,          \
                     const TileBias<A>& bias, bool add_to_scores, A* weights, A* d_scores) {          \
    HWY_DYNAMIC_DISPATCH(backward_##name)(tile, keys, piece, bias, add_to_scores, weights, d_scores); \
  }                                                                                                   \
  void add_row_product(const RowProduct<A>& product) {                                                \
    HWY_DYNAMIC_DISPATCH(add_rows_##name)(product);                                                   \
  }                                                                                                   \
  }
LONGSEQ_DISPATCH(float, f32)
LONGSEQ_DISPATCH(double, f64)
#undef LONGSEQ_DISPATCH

}  // namespace longseq
#endif
