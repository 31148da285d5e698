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

  std::int64_t token(std::int64_t lane) const { return (rows.begin + lane) / fold; }
  Interval tokens() const { return {token(0), token(rows.size() - 1) + 1}; }
  std::int64_t head(std::int64_t lane) const { return first_head + (rows.begin + lane) % fold; }

  /// Calls visit(lane, head, token) for all lanes. Dividing for each would take longer than most of what is
  /// done for a row.
  template <class Visit>
  void for_each(Visit visit) const {
    std::int64_t own_head = head(0), own_token = token(0);
    for (std::int64_t lane = 0; lane < rows.size(); ++lane) {
      visit(lane, own_head, own_token);
      if (++own_head < first_head + fold) continue;
      own_head = first_head;
      ++own_token;
    }
  }
};

/// Where the rows lie in a view; nothing past the last: to fill that takes as long as the rest.
template <std::size_t kLanes, class T>
std::array<T*, kLanes> rows_of(const TensorView<T>& view, std::int64_t batch, const FoldedRows& queries) {
  std::array<T*, kLanes> rows;
  queries.for_each([&](std::int64_t lane, std::int64_t head, std::int64_t token) {
    rows[static_cast<std::size_t>(lane)] = view.row(batch, head, token);
  });
  return rows;
}

}  // namespace longseq::detail
