// The backward tile with all five products in the matrix unit: scores and dP for 32 queries at a time,
// weights and dS from both in one pass of the vector units, then dv, dk and, transposed, dq.
//
// Bound: both. For 16 queries and a key the unit takes 5·head_dim / 32 cycles, the vector units 10 for 20
// operations on two ports. Measured: 2.4 and 2.8 times the f32 peak at head_dim 64 and 128
// (kernels/MEASUREMENTS.md).
#include <algorithm>
#include <cstdlib>

#include "kernels/tiles/backward_tile.h"
#include "kernels/tiles/matrix.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/tiles/backward_matrix.cpp"
#include <hwy/foreach_target.h>
// foreach_target comes first: what follows is compiled once per instruction set.
#include <hwy/highway.h>

#include "kernels/tiles/backward-inl.h"

HWY_BEFORE_NAMESPACE();
#if LONGSEQ_MAY_DOT
#pragma GCC target("avx512bf16")
#endif
namespace longseq::HWY_NAMESPACE {
using detail::kMatrixDepth;
using detail::kMatrixSide;
using detail::PairScores;
using detail::Span;

#if LONGSEQ_MAY_DOT
using MatrixStep = BackwardStep<float, Pair>;

/// Scores and dP of the piece and a block of lanes.
void multiply_lanes(const MatrixStep& call, std::int64_t first_lane) {
  const auto multiply = [&](const Pair* keys, const Pair* lanes, float* sums) {
    detail::multiply({.left = keys + (call.piece.keys.begin - call.operands.origin) * call.operands.k_stride,
                      .left_row = call.operands.k_stride,
                      .right = lanes + call.lanes(first_lane),
                      .right_row = kLaneBlock,
                      .sums = sums + first_lane,
                      .sums_row = kBackwardLanes,
                      .rows = detail::in_whole_sides(call.piece.keys.size()),
                      .columns = kLaneBlock,
                      .steps = call.tile.head_dim / kMatrixDepth,
                      .add = false});
  };
  multiply(call.operands.k, call.operands.query_lanes, call.weights);
  multiply(call.operands.v, call.operands.d_o_lanes, call.d_scores);
}

/// Weights and dS of a span's keys and some of its lanes, as pairs, from scores and dP; dS is left in their
/// place.
template <Extra kExtra>
HWY_NOINLINE void differentiate_span(const MatrixStep& call, const PairScores& pairs, const Span& span,
                                     std::int64_t first_lane, std::int64_t last_lane) {
  const Tag<float> d;
  for (std::int64_t lane = first_lane; lane < last_lane; lane += lanes_of<float>()) {
    for (std::int64_t key = span.keys.begin; key < span.keys.end; key += 2) {
      const std::int64_t at = call.row(key) + lane;
      Vec<float> d_scores[2];
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i) {
        const std::int64_t own = at + i * kBackwardLanes;
        const Vec<float> weight =
            Weigh<kExtra>::finish(call, span.masked, lane, key + i, hn::Load(d, call.weights + own));
        d_scores[i] = differentiate(call, lane, weight, hn::Load(d, call.d_scores + own));
        hn::Store(d_scores[i], d, call.d_scores + own);
        store_lane_pairs(weight, pairs.weights + own / 2);
        store_lane_pairs(d_scores[i], pairs.d_scores + own / 2);
      }
      hn::Store(pairs_of(d_scores[0], d_scores[1]), Tag<std::uint32_t>(),
                &pairs.d_scores_keys[call.row(key) / 2 + lane].bits);
    }
  }
}

/// Weights and dS for a block of lanes.
void differentiate_lanes(const MatrixStep& call, const PairScores& pairs, std::int64_t block) {
  for (int s = 0; s < call.piece.span_count; ++s) {
    const Span& span = call.piece.spans[s];
    const std::int64_t first = std::max(span.first_lane, block);
    const std::int64_t last = std::min(span.last_lane, block + kLaneBlock);
    switch (extra_of(call, span)) {
      case Extra::none:
        differentiate_span<Extra::none>(call, pairs, span, first, last);
        break;
      case Extra::mask:
        differentiate_span<Extra::mask>(call, pairs, span, first, last);
        break;
      case Extra::any:
        differentiate_span<Extra::any>(call, pairs, span, first, last);
        break;
    }
  }
}

/// Whether spans cover every key of whole steps and every lane.
bool covered(const Piece& piece) {
  return piece.keys.size() % kMatrixDepth == 0 &&
         std::all_of(piece.spans, piece.spans + piece.span_count, [](const Span& span) {
           return span.first_lane == 0 && span.last_lane == kBackwardLanes;
         });
}

void backward_matrix(BackwardTile<float>& tile, const BackwardOperands<Pair>& operands,
                     KeyGradients<float>& gradients, const Piece& piece, const TileBias<float>& bias,
                     const detail::BackwardScores<float>& scores, const PairScores& pairs) {
  const MatrixStep call{tile, operands, gradients, piece, bias, false, scores.weights, scores.d_scores};
  const std::int64_t steps = detail::whole_steps(piece.keys.size());
  if (!covered(piece)) {
    for (Pair* values : {pairs.weights, pairs.d_scores, pairs.d_scores_keys})
      std::fill_n(values, steps * kMatrixSide * kBackwardLanes, Pair{});
  }
  for (std::int64_t lane = 0; lane < kBackwardLanes; lane += kLaneBlock) {
    multiply_lanes(call, lane);
    differentiate_lanes(call, pairs, lane);
  }
  const std::int64_t key = piece.keys.begin - operands.origin, width = tile.head_dim, stride = tile.stride;
  const auto add_keys = [&](float* sums, const Pair* left, const Pair* right) {
    detail::multiply({.left = left,
                      .left_row = kBackwardLanes / 2,
                      .right = right,
                      .right_row = stride,
                      .sums = sums + key * stride,
                      .sums_row = stride,
                      .rows = detail::in_whole_sides(piece.keys.size()),
                      .columns = width,
                      .steps = kBackwardLanes / kMatrixDepth,
                      .add = true});
  };
  add_keys(gradients.dv.rows, pairs.weights, operands.d_o_rows);
  add_keys(gradients.dk.rows, pairs.d_scores, operands.query_rows);
  detail::multiply({.left = operands.k_rows + key / 2,
                    .left_row = operands.k_rows_stride,
                    .right = pairs.d_scores_keys,
                    .right_row = kBackwardLanes,
                    .sums = tile.dq_lanes,
                    .sums_row = kBackwardLanes,
                    .rows = width,
                    .columns = kBackwardLanes,
                    .steps = steps,
                    .add = true});
}
#else
void backward_matrix(BackwardTile<float>&, const BackwardOperands<Pair>&, KeyGradients<float>&, const Piece&,
                     const TileBias<float>&, const detail::BackwardScores<float>&, const PairScores&) {
  std::abort();  // pair_products() is never matrix for this target
}
#endif

}  // namespace longseq::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace longseq {
HWY_EXPORT(backward_matrix);

namespace detail {

void backward_tile_by_matrix(BackwardTile<float>& tile, const BackwardOperands<Pair>& operands,
                             KeyGradients<float>& gradients, const Piece& piece, const TileBias<float>& bias,
                             const BackwardScores<float>& scores, const PairScores& pairs) {
  HWY_DYNAMIC_DISPATCH(backward_matrix)(tile, operands, gradients, piece, bias, scores, pairs);
}

}  // namespace detail
}  // namespace longseq
#endif
