// The rows of a tile: queries of one or more heads that share their keys. Not for use outside kernels/.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/tensor.h"

namespace longseq::detail {

/// Query rows of a block, one after the other: (token, head) pairs, token by token, so that the heads of one
/// group read their keys together.
struct FoldedRows {
  std::int64_t first_head = 0;
  std::int64_t fold = 1;  // heads of a token
  Interval rows;          // of the block's tokens · fold

  // Most often nothing is folded, and dividing takes longer than all else that is done for a row.
  std::int64_t token(std::int64_t lane) const {
    return fold == 1 ? rows.begin + lane : (rows.begin + lane) / fold;
  }
  std::int64_t head(std::int64_t lane) const {
    return fold == 1 ? first_head : first_head + (rows.begin + lane) % fold;
  }
};

/// Where the rows lie in a view; null past the last.
template <std::size_t kLanes, class T>
std::array<T*, kLanes> rows_of(const TensorView<T>& view, std::int64_t batch, const FoldedRows& queries) {
  std::array<T*, kLanes> rows{};
  for (std::int64_t t = 0; t < queries.rows.size(); ++t)
    rows[static_cast<std::size_t>(t)] = view.row(batch, queries.head(t), queries.token(t));
  return rows;
}

}  // namespace longseq::detail
