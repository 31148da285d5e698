// Transformer-XL's content–position products for one tile, its relative shift fused: products are made once
// for each distance and query, and sheared so that a key finds the distance to each query (Dai et al. 2019,
// appendix B, without the S² buffer). Not for use outside kernels/.
#pragma once

#include "kernels/tiles/tile.h"

namespace longseq::detail {

/// The distances between `width` queries and a run of keys, in the order in which shear() wants them: row i
/// is that of lane width − 1 to key row first_key + i. Queries and keys are tokens `stride` apart.
struct DistanceRows {
  std::int64_t first;   // distance of row 0
  std::int64_t stride;  // distances fall by it from row to row

  std::int64_t at(std::int64_t row) const { return first - row * stride; }
};

/// Throws std::invalid_argument where queries and keys are not equally far apart.
void expect_equal_spacing(Run queries, Run keys);

/// The distances from the tile of `width` tokens that begins at token `first_token` to the rows of `keys`.
DistanceRows distances_to(Run block_positions, std::int64_t first_token, std::int64_t width, Run keys);

/// rows[i] = r_head(distance of row i), for i in `range`.
template <class A>
void gather_relative_rows(const RelativeKeys<A>& relative, std::int64_t head, const DistanceRows& distances,
                          Interval range, A* rows, std::int64_t width);

/// products[i][lane] = Σ_d rows[i][d] · queries[d][lane], i < count. rows: [count][row_size]; queries: [width
/// / kLaneBlock][head_dim][kLaneBlock]; products: [count][width].
void multiply_rows(const float* rows, std::int64_t row_size, std::int64_t count, std::int64_t head_dim,
                   const float* queries, std::int64_t width, float* products);
void multiply_rows(const double* rows, std::int64_t row_size, std::int64_t count, std::int64_t head_dim,
                   const double* queries, std::int64_t width, double* products);

/// values[n][lane] = products[n + width − 1 − lane][lane], n < keys.
void shear(const float* products, std::int64_t keys, std::int64_t width, float* values);
void shear(const double* products, std::int64_t keys, std::int64_t width, double* values);

/// The products of one forward tile over a key block whose pieces come in ascending order: the rows that two
/// neighbouring pieces share are kept.
template <class A>
class RelativeScores {
 public:
  /// `memory`: elements(head_dim) of the tile's own; `rows`: row_elements(head_dim) that tiles may share.
  RelativeScores(std::int64_t head_dim, A* memory, A* rows);
  static std::int64_t elements(std::int64_t head_dim);
  static std::int64_t row_elements(std::int64_t head_dim);

  A* queries() { return queries_; }  // [head_dim][kForwardLanes], the position queries
  void begin_block(Run block_positions, const FoldedRows& queries, Run keys);
  /// Fills scores, [kForwardKeys][kForwardLanes], for the keys of one piece.
  void fill(const RelativeKeys<A>& relative, Interval keys, A* scores);

 private:
  std::int64_t head_dim_;
  A* queries_;
  A* products_;  // [kForwardKeys + kForwardLanes − 1][kForwardLanes]
  A* rows_;      // [kForwardKeys + kForwardLanes − 1][head_dim]
  std::int64_t head_ = 0;
  DistanceRows to_first_key_{};
  Interval held_;  // the keys whose products are held
};

}  // namespace longseq::detail
