// The inside of the forward engine: one tile of queries takes in a piece of keys. Not for use outside
// kernels/.
#pragma once

#include "kernels/tiles/tile.h"

namespace longseq::detail {

inline constexpr std::int64_t kForwardLanes = 32;  // queries of a tile
inline constexpr std::int64_t kForwardKeys = 384;  // keys of a piece, at most
// of which the matrix unit takes so many at once that scores and weights stay in the first-level cache
inline constexpr std::int64_t kMatrixKeys = 96;

/// One tile's queries and streaming state, transposed so that queries are lanes. All arrays are aligned to 64
/// bytes; lanes past the last query are zero.
template <class A>
struct ForwardTile {
  A* queries;  // [head_dim][kForwardLanes]; or, as pairs of dimensions, [head_dim / 2][kForwardLanes]
  A* maximum;  // [kForwardLanes]
  A* outputs;  // [head_dim][kForwardLanes], of the keys since those in `earlier`; then a row more, their sum;
               // zeros before the first
  A* sum;      // [kForwardLanes], that row
  A* earlier;  // as outputs with its last row, of keys taken in before; nothing unless has_earlier
  bool has_earlier;
  int pieces;  // of keys, in the outputs
  std::int64_t head_dim;
  A score_scale;  // c · log2 e
  Lanes<A> lanes;
};

/// Takes the piece's keys into the tile's state. `scores` is [kForwardKeys][kForwardLanes], the piece's first
/// key first: scratch, but if `add_to_scores`, it holds what is added to q·k.
void attend_tile(ForwardTile<float>& tile, const KeyRows<float>& keys, const Piece& piece,
                 const TileBias<float>& bias, bool add_to_scores, float* scores);
void attend_tile(ForwardTile<double>& tile, const KeyRows<double>& keys, const Piece& piece,
                 const TileBias<double>& bias, bool add_to_scores, double* scores);

/// A tile, what it sees of some keys, and scratch for its scores, [kForwardKeys][kForwardLanes].
template <class A>
struct TileTurn {
  ForwardTile<A>& tile;
  const Piece& piece;
  A* scores;
};

/// Whether the target in use makes products 6 rows × 4 vectors at a time (RegisterTile::wide, simd.h).
bool makes_wide_products();

/// The same as attend_tile for one and then the other, to the bit as long as all numbers are finite, without
/// anything to add to scores; what both see is loaded for both at once. Only where makes_wide_products().
void attend_two_tiles(const TileTurn<float>& first, const TileTurn<float>& second, const KeyRows<float>& keys,
                      const TileBias<float>& bias);
void attend_two_tiles(const TileTurn<double>& first, const TileTurn<double>& second,
                      const KeyRows<double>& keys, const TileBias<double>& bias);

/// attend_tile with bfloat16 pairs, tile.queries among them: head_dim is even, the piece was cut with a
/// granule of 2, a key beyond the block's end has finite values. `weights` is scratch, [kForwardKeys /
/// 2][kForwardLanes]. Only where pair_products() is PairProducts::dot (simd.h).
void attend_tile_by_pairs(ForwardTile<float>& tile, const KeyRows<Pair>& keys, const Piece& piece,
                          const TileBias<float>& bias, float* scores, Pair* weights);

/// The same in the matrix unit: head_dim is a multiple of kMatrixDepth, and keys.v holds the values
/// transposed, [head_dim][v_stride], pairs of keys side by side. Keys up to kMatrixDepth beyond the block's
/// end have finite values. Within a MatrixUnit only, with at most kMatrixKeys keys: what is computed beyond
/// the piece, in whole blocks, goes to the room that scores and weights have left. A value that is not finite
/// reaches the other queries of the tile.
void attend_tile_by_matrix(ForwardTile<float>& tile, const KeyRows<Pair>& keys, const Piece& piece,
                           const TileBias<float>& bias, float* scores, Pair* weights);

/// Adds the outputs and the sum to `earlier`, and lets them begin anew.
void put_aside(ForwardTile<float>& tile);
void put_aside(ForwardTile<double>& tile);
/// Adds `earlier` to the outputs and the sum, which are then those of all keys.
void take_back(ForwardTile<float>& tile);
void take_back(ForwardTile<double>& tile);

/// What the streaming state of kForwardLanes queries that have seen all their keys gives: lse = ln Σ exp, −∞
/// where no key was seen, and what their outputs are to be multiplied by, 0 there. Aligned to 64 bytes.
void finish_rows(const float* maximum, const float* sum, float* lse, float* factors);
void finish_rows(const double* maximum, const double* sum, double* lse, double* factors);

}  // namespace longseq::detail
