// Rows on their way into the second-level cache. Not for use outside kernels/.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/tiles/folded_rows.h"

namespace longseq::detail {

/// Rows that will be wanted soon, asked for line by line between the steps of products: they come from far
/// away, and many at once would hold the products up.
class Coming {
 public:
  /// Forgets what has not been asked for: it is of no use any more.
  void clear() {
    count_ = at_ = 0;
    row_ = offset_ = 0;
  }
  /// What has been asked for makes room for more.
  void tidy() {
    if (at_ == 0) return;
    std::move(ranges_.begin() + at_, ranges_.begin() + count_, ranges_.begin());
    count_ -= at_;
    at_ = 0;
  }

  /// Tokens `rows` of one head. What finds no room comes when it is used.
  template <class T>
  void add(const TensorView<T>& view, std::int64_t batch, std::int64_t head, Interval rows) {
    if (rows.empty() || count_ == kMostRanges) return;
    constexpr auto kBytes = static_cast<std::int64_t>(sizeof(T));
    ranges_[count_++] = {reinterpret_cast<const char*>(view.row(batch, head, rows.begin)),
                         view.token_stride * kBytes, view.shape.head_dim * kBytes, rows.size()};
  }
  /// The rows of a tile.
  template <class T>
  void add(const TensorView<T>& view, std::int64_t batch, const FoldedRows& queries) {
    if (queries.fold == 1) return add(view, batch, queries.first_head, queries.rows);
    queries.for_each([&](std::int64_t /*lane*/, std::int64_t head, std::int64_t token) {
      add(view, batch, head, {token, token + 1});
    });
  }

  /// Asks for the next `lines` lines.
  void fetch(std::int64_t lines) {
    for (; lines > 0 && at_ < count_; --lines) fetch();
  }
  /// Asks for the next line.
  void fetch() {
    constexpr std::int64_t kLine = 64;
    if (at_ == count_) return;
    const Range& range = ranges_[at_];
    __builtin_prefetch(range.first + row_ * range.row_stride + offset_, 0, 2);
    offset_ += kLine;
    if (offset_ < range.row_bytes) return;
    offset_ = 0;
    if (++row_ < range.rows) return;
    row_ = 0;
    ++at_;
  }

 private:
  struct Range {
    const char* first;
    std::int64_t row_stride;  // bytes
    std::int64_t row_bytes;
    std::int64_t rows;
  };
  static constexpr std::size_t kMostRanges = 256;  // three tensors' rows of a tile, and more
  std::array<Range, kMostRanges> ranges_;
  std::size_t count_ = 0;
  std::size_t at_ = 0;       // the range that is being asked for, of it
  std::int64_t row_ = 0;     // the row, and of that
  std::int64_t offset_ = 0;  // the line, in bytes
};

}  // namespace longseq::detail
