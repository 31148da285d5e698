// The inside of the backward engine: one tile of queries meets a piece of keys. Not for use outside kernels/.
#pragma once

#include "kernels/tiles/tile.h"

namespace longseq::detail {

inline constexpr std::int64_t kBackwardLanes = 64;  // queries of a tile
inline constexpr std::int64_t kBackwardKeys = 96;   // keys of a piece, at most

/// head_dim rounded up to whole vectors: what is computed of a packed row, zero beyond head_dim.
constexpr std::int64_t packed_width(std::int64_t head_dim) {
  return (head_dim + kLaneGroup - 1) / kLaneGroup * kLaneGroup;
}
/// Elements from one packed row to the next: an odd number of lane groups, so that the same columns of many
/// rows spread over all sets of a cache.
constexpr std::int64_t packed_stride(std::int64_t head_dim) {
  const std::int64_t groups = packed_width(head_dim) / kLaneGroup;
  return (groups + (groups % 2 == 0)) * kLaneGroup;
}

/// One tile's queries and output gradients, as lanes and as rows, and the gradient that it gathers. Arrays
/// are aligned to 64 bytes and zero past the last query; `width` is packed_width(head_dim).
template <class A>
struct BackwardTile {
  A* query_lanes;  // [2][head_dim][kLaneBlock]
  A* d_o_lanes;    // [2][head_dim][kLaneBlock]
  A* query_rows;   // [kBackwardLanes][stride]
  A* d_o_rows;     // [kBackwardLanes][stride]
  A* dq_rows;      // [kBackwardLanes][stride], without the factor c
  A* lse;          // [kBackwardLanes], times log2 e; 0 for a query that sees no key
  A* delta;        // [kBackwardLanes]
  std::int64_t head_dim;
  std::int64_t width;   // packed_width(head_dim)
  std::int64_t stride;  // packed_stride(head_dim)
  A score_scale;        // c · log2 e
  Lanes<A> lanes;
};

/// Keys of a task, packed, with the gradients that they gather: [keys][stride] each, row `origin` of the key
/// block first; dk without the factor c.
template <class A>
struct GradientRows {
  A* k;
  A* v;
  A* dk;
  A* dv;
  std::int64_t origin;
};

/// Adds to dk, dv and dq_rows what the piece's keys and the tile's queries give each other. `weights` and
/// `d_scores` are scratch, [kBackwardKeys][kBackwardLanes], the piece's first key first; d_scores is left
/// holding dS within the piece's spans. If `add_to_scores`, it first holds what is added to q·k.
void backward_tile(BackwardTile<float>& tile, const GradientRows<float>& keys, const Piece& piece,
                   const TileBias<float>& bias, bool add_to_scores, float* weights, float* d_scores);
void backward_tile(BackwardTile<double>& tile, const GradientRows<double>& keys, const Piece& piece,
                   const TileBias<double>& bias, bool add_to_scores, double* weights, double* d_scores);

/// out[r][d] += Σ_n left[r][n] · right[n][d], r < rows, n < count, d < width, a multiple of kLaneGroup. Rows
/// of left are kBackwardLanes long; `transposed`: it lies as left[n][r].
template <class A>
struct RowProduct {
  A* out;
  std::int64_t out_row;
  std::int64_t rows;
  const A* left;
  bool transposed;
  const A* right;
  std::int64_t right_row;
  std::int64_t count;
  std::int64_t width;
};
void add_row_product(const RowProduct<float>& product);
void add_row_product(const RowProduct<double>& product);

}  // namespace longseq::detail
