// The inside of the backward engine: one tile of queries meets a piece of keys. Not for use outside kernels/.
#pragma once

#include <algorithm>

#include "kernels/tiles/coming.h"
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

/// Rows of sums, [rows][stride]. Those from `held` on hold nothing yet: what a product writes first it sets,
/// so that nothing has to be zero before.
template <class A>
struct RowSums {
  A* rows = nullptr;
  std::int64_t held = 0;

  /// How many of these rows a product has to add to; it sets those that follow. Rows before them become
  /// zero if they held nothing.
  std::int64_t begin(Interval own, std::int64_t stride) {
    complete(own.begin, stride);
    const std::int64_t added = std::min(held - own.begin, own.size());
    held = std::max(held, own.end);
    return added;
  }
  /// Rows up to `end` that hold nothing become zero.
  void complete(std::int64_t end, std::int64_t stride) {
    if (held >= end) return;
    std::fill(rows + held * stride, rows + end * stride, A{0});
    held = end;
  }
};

/// One tile of queries: what softmax left of them, and the gradient that they gather. Arrays are aligned to
/// 64 bytes.
template <class A>
struct BackwardTile {
  RowSums<A> dq;  // kBackwardLanes, without the factor c
  A* dq_lanes;    // [head_dim][kBackwardLanes], the same; null where T is A
  A* lse_whole;   // [kBackwardLanes], lse·log2 e to the nearest whole number; 0 for a query that sees no key
  A* lse_factor;  // [kBackwardLanes], 2^-(the rest)
  A* lse_lowest;  // [kBackwardLanes], lse_whole as exp2_weight wants it (exp2-inl.h)
  A* lse_shift;   // [kBackwardLanes], the same
  A* delta;       // [kBackwardLanes]
  std::int64_t head_dim;
  std::int64_t width;   // packed_width(head_dim)
  std::int64_t stride;  // packed_stride(head_dim)
  A score_scale;        // c · log2 e
  bool far;             // some lse_whole is beyond what exp2_weight can take off
  Lanes<A> lanes;
  Coming coming;  // its own gradient, rows of the next tile, keys
};

/// Rows of a tile as products read them: packed, or where they lie.
template <class E>
struct PlacedRows {
  const E* first;
  std::int64_t stride;
};

/// The tile's queries and output gradients, zero past the last query, and the task's keys, row `origin` of
/// the key block first, as the products want them. E: A, or Pair, which stands for n = 2 neighbours: of
/// dimensions in lanes and in k and v, of queries or keys elsewhere.
template <class E>
struct BackwardOperands {
  E* query_lanes;              // [2][head_dim / n][kLaneBlock]
  E* d_o_lanes;                // [2][head_dim / n][kLaneBlock]
  E* query_rows;               // [kBackwardLanes / n][stride], room to pack them
  E* d_o_rows;                 // [kBackwardLanes / n][stride]
  E* k;                        // [keys][k_stride]
  E* v;                        // [keys][k_stride]
  E* k_rows;                   // [keys / n][k_rows_stride]; k itself where n is 1
  std::int64_t k_stride;       // stride / n
  std::int64_t k_rows_stride;  // stride
  std::int64_t origin;
  PlacedRows<E> queries{};  // what dk and dv are made of
  PlacedRows<E> d_o{};
};

/// The gradients of the task's keys; dk without the factor c.
template <class A>
struct KeyGradients {
  RowSums<A> dk;
  RowSums<A> dv;
};

/// Scores between two products, [kBackwardKeys][kBackwardLanes], the piece's first key first.
template <class A>
struct BackwardScores {
  A* weights;
  A* d_scores;  // is left holding dS within the piece's spans; if there is something to add to q·k, it holds
                // that first
};

/// The same as pairs: of queries, and of keys.
struct PairScores {
  Pair* weights;        // [kBackwardKeys][kBackwardLanes / 2]
  Pair* d_scores;       // [kBackwardKeys][kBackwardLanes / 2]
  Pair* d_scores_keys;  // [kBackwardKeys / 2][kBackwardLanes]
};

/// Fills what the tile keeps of its queries' lse, [kBackwardLanes]; ±∞ counts as 0.
void split_lse(const float* lse, BackwardTile<float>& tile);
void split_lse(const double* lse, BackwardTile<double>& tile);

/// Adds to dk, dv and dq what the piece's keys and the tile's queries give each other. add_to_scores:
/// see BackwardScores.
void backward_tile(BackwardTile<float>& tile, const BackwardOperands<float>& operands,
                   KeyGradients<float>& gradients, const Piece& piece, const TileBias<float>& bias,
                   bool add_to_scores, const BackwardScores<float>& scores);
void backward_tile(BackwardTile<double>& tile, const BackwardOperands<double>& operands,
                   KeyGradients<double>& gradients, const Piece& piece, const TileBias<double>& bias,
                   bool add_to_scores, const BackwardScores<double>& scores);

/// The same with bfloat16 pairs: head_dim is even, the piece was cut with a granule of 2, a key beyond the
/// block's end is zero. Only where pair_products() is
/// PairProducts::dot (simd.h).
void backward_tile_by_pairs(BackwardTile<float>& tile, const BackwardOperands<Pair>& operands,
                            KeyGradients<float>& gradients, const Piece& piece, const TileBias<float>& bias,
                            const BackwardScores<float>& scores, const PairScores& pairs);

/// The same in the matrix unit: head_dim is a multiple of kMatrixDepth; k_stride is head_dim / 2 and k_rows
/// the keys transposed, [head_dim][k_rows_stride], pairs of keys side by side. Up to kMatrixDepth keys beyond
/// the last are zero, and as many rows of the gradients scratch; all
/// gradients of the task's keys hold something. dq is summed in dq_lanes,
/// [head_dim][kBackwardLanes]. Only where matrix_unit_usable(), within a MatrixUnit.
void backward_tile_by_matrix(BackwardTile<float>& tile, const BackwardOperands<Pair>& operands,
                             KeyGradients<float>& gradients, const Piece& piece, const TileBias<float>& bias,
                             const BackwardScores<float>& scores, const PairScores& pairs);

/// out[r][d] += Σ_n left[r][n] · right[n][d], r < rows, n < count elements, d < width, a multiple of
/// kLaneGroup; rows from `added` on are set to it. Rows of left stand for kBackwardLanes values;
/// `transposed`: it lies as left[n][r], kBackwardLanes elements a row.
template <class A, class E = A>
struct RowProduct {
  A* out;
  std::int64_t out_row;
  std::int64_t rows;
  std::int64_t added;
  const E* left;
  bool transposed;
  const E* right;
  std::int64_t right_row;
  std::int64_t count;
  std::int64_t width;
};
void add_row_product(const RowProduct<float>& product);
void add_row_product(const RowProduct<double>& product);

}  // namespace longseq::detail
