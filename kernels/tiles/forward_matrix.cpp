// The forward tile with both products in the matrix unit: keys × queries and values × weights, 32 × 32 sums
// at a time, the softmax between them in the vector units as everywhere.
//
// Bound: for 16 queries and a key the unit takes head_dim / 16 cycles, the vector units 8 for 15 operations
// on two ports (maximum, exp2, sum, rounding to bfloat16). What takes longer is to load and store the unit's
// registers: 23 cycles in all at head_dim 64, 36 at 128. Measured: 2.7 and 3.6 times the f32 peak, the unit
// busy a sixth and a fifth of the time (kernels/MEASUREMENTS.md).
#include <algorithm>
#include <limits>

#include "kernels/tiles/forward_tile.h"
#include "kernels/tiles/matrix.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/tiles/forward_matrix.cpp"
#include <hwy/foreach_target.h>
// foreach_target comes first: what follows is compiled once per instruction set.
#include <hwy/highway.h>

#include "kernels/tiles/softmax-inl.h"

HWY_BEFORE_NAMESPACE();
#if LONGSEQ_MAY_DOT
#pragma GCC target("avx512bf16")
#endif
namespace longseq::HWY_NAMESPACE {
using detail::kMatrixDepth;
using detail::kMatrixSide;
using detail::Span;

constexpr std::int64_t kKeysPerLine = 4;  // of what is coming

using MatrixStep = ForwardStep<float, Pair>;

/// Finishes the scores of a span; raises block_maximum. kPlain: there is nothing to finish.
template <bool kPlain>
HWY_NOINLINE void finish_scores(const MatrixStep& call, const Span& span) {
  const Interval keys = span.keys;
  const Tag<float> d;
  for (std::int64_t lane = span.first_lane; lane < span.last_lane; lane += lanes_of<float>()) {
    Vec<float> maximum = hn::Load(d, call.block_maximum + lane), odd = maximum;
    float* HWY_RESTRICT at = call.score_row(keys.begin) + lane;
    const auto score = [&](std::int64_t key) HWY_ATTR {
      Vec<float> own = hn::Load(d, at);
      if constexpr (!kPlain) {
        own = finish_score(call, span.masked, lane, key, own);
        hn::Store(own, d, at);
      }
      at += kForwardLanes;
      return own;
    };
    std::int64_t key = keys.begin;
    for (; key + 1 < keys.end; key += 2) {
      maximum = hn::Max(maximum, score(key));
      odd = hn::Max(odd, score(key + 1));
    }
    if (key < keys.end) maximum = hn::Max(maximum, score(key));
    hn::Store(hn::Max(maximum, odd), d, call.block_maximum + lane);
  }
}

/// Scores span by span. Whole blocks of keys are multiplied: those beyond a span are written again by the
/// next.
void score_by_matrix(const MatrixStep& call) {
  for (int s = 0; s < call.piece.span_count; ++s) {
    const Span& span = call.piece.spans[s];
    call.keys.coming->fetch(span.keys.size() / kKeysPerLine);
    detail::multiply({.left = call.keys.k_row(span.keys.begin),
                      .left_row = call.keys.k_stride,
                      .right = call.queries + span.first_lane,
                      .right_row = kForwardLanes,
                      .sums = call.score_row(span.keys.begin) + span.first_lane,
                      .sums_row = kForwardLanes,
                      .rows = detail::in_whole_sides(span.keys.size()),
                      .columns = span.last_lane - span.first_lane,
                      .steps = call.tile.head_dim / kMatrixDepth,
                      .add = false});
    if (span.masked || call.bias.values != nullptr) {
      finish_scores<false>(call, span);
    } else {
      finish_scores<true>(call, span);
    }
  }
}

/// Weights of 0 for the keys of the piece, in whole steps, that a group of lanes does not take in.
void fill_up_weights(const MatrixStep& call, std::int64_t rows) {
  for (std::int64_t lane = 0; lane < kForwardLanes; lane += kLaneGroup) {
    const Interval own = call.piece.group_keys[lane / kLaneGroup];
    const auto fill = [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row)
        std::fill_n(call.weights + row * kForwardLanes + lane, kLaneGroup, Pair{});
    };
    fill(0, (own.begin - call.piece.keys.begin) / 2);
    fill(std::max<std::int64_t>(own.end - call.piece.keys.begin + 1, 0) / 2, rows);
  }
}

void attend_matrix(ForwardTile<float>& tile, const KeyRows<Pair>& keys, const Piece& piece,
                   const TileBias<float>& bias, float* scores, Pair* weights) {
  HWY_ALIGN float block_maximum[kForwardLanes];
  std::fill_n(block_maximum, kForwardLanes, -std::numeric_limits<float>::infinity());
  const MatrixStep call{
      tile,         reinterpret_cast<const Pair*>(tile.queries), keys, piece, bias, false, scores, weights,
      block_maximum};
  score_by_matrix(call);
  weigh_piece(call);
  const std::int64_t steps = detail::whole_steps(piece.keys.size());
  fill_up_weights(call, steps * kMatrixSide);
  detail::multiply({.left = keys.v + (piece.keys.begin - keys.origin) / 2,
                    .left_row = keys.v_stride,
                    .right = weights,
                    .right_row = kForwardLanes,
                    .sums = tile.outputs,
                    .sums_row = kForwardLanes,
                    .rows = tile.head_dim,
                    .columns = kForwardLanes,
                    .steps = steps,
                    .add = true});
}

}  // namespace longseq::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace longseq {
HWY_EXPORT(attend_matrix);

namespace detail {

void attend_tile_by_matrix(ForwardTile<float>& tile, const KeyRows<Pair>& keys, const Piece& piece,
                           const TileBias<float>& bias, float* scores, Pair* weights) {
  HWY_DYNAMIC_DISPATCH(attend_matrix)(tile, keys, piece, bias, scores, weights);
}

}  // namespace detail
}  // namespace longseq
#endif
