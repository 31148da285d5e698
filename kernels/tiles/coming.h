// Rows on their way into the second-level cache. Not for use outside kernels/.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/attention.h"
#include "kernels/tiles/folded_rows.h"

namespace longseq::detail {

/// Rows that will be wanted soon, asked for little by little between the steps of products: they come from
/// far away, and many at once would hold the products up.
class Coming {
 public:
  /// Forgets what has not been asked for: it is of no use any more.
  void clear() {
    count_ = at_ = 0;
    row_ = offset_ = 0;
  }
  /// Forgets keys only: the next are others, but a tile's rows are still to come.
  void forget_keys() {
    if (at_ < count_ && !ranges_[at_].of_tile) row_ = offset_ = 0;
    const auto left = std::remove_if(ranges_.begin() + at_, ranges_.begin() + count_,
                                     [](const Range& range) { return !range.of_tile; });
    count_ = static_cast<std::size_t>(left - ranges_.begin());
  }
  /// What has been asked for makes room for more.
  void tidy() {
    if (at_ == 0) return;
    std::move(ranges_.begin() + at_, ranges_.begin() + count_, ranges_.begin());
    count_ -= at_;
    at_ = 0;
  }

  /// Keys: tokens `rows` of one head. What finds no room comes when it is used.
  template <class T>
  void add(const TensorView<T>& view, std::int64_t batch, std::int64_t head, Interval rows,
           bool of_tile = false) {
    if (rows.empty() || count_ == kMostRanges) return;
    constexpr auto kBytes = static_cast<std::int64_t>(sizeof(T));
    const std::int64_t row_bytes = view.shape.head_dim * kBytes, row_stride = view.token_stride * kBytes;
    const bool dense = row_bytes == row_stride;  // one long row, then
    ranges_[count_++] = {reinterpret_cast<const char*>(view.row(batch, head, rows.begin)), row_stride,
                         dense ? rows.size() * row_bytes : row_bytes, dense ? 1 : rows.size(), of_tile};
  }
  /// The rows of a tile.
  template <class T>
  void add(const TensorView<T>& view, std::int64_t batch, const FoldedRows& queries) {
    if (queries.fold == 1) return add(view, batch, queries.first_head, queries.rows, true);
    queries.for_each([&](std::int64_t /*lane*/, std::int64_t head, std::int64_t token) {
      add(view, batch, head, {token, token + 1}, true);
    });
  }

  /// Lines that follow each other, of which each step asks for a quarter: that needs no branch.
  struct Stretch {
    const char* at;
    std::int64_t quarters;
    void ask(std::int64_t taken = 1) {
      __builtin_prefetch(at, 0, 2);
      at += taken * kQuarter;
      quarters -= taken;
    }
  };
  /// What is to come next, 1 to `most` quarters of lines. Where nothing is, the queue itself, which is in the
  /// cache: a product has kMaxHeadDim steps at most.
  Stretch next(std::int64_t most) {
    static_assert(sizeof(Coming) >= kMaxHeadDim * kQuarter);
    if (at_ == count_) return {reinterpret_cast<const char*>(this), most};
    const Range& range = ranges_[at_];
    const char* const first = range.first + row_ * range.row_stride + offset_;
    const std::int64_t left = (range.row_bytes - offset_ + kQuarter - 1) / kQuarter;
    if (most < left) {
      offset_ += most * kQuarter;
      return {first, most};
    }
    offset_ = 0;
    if (++row_ == range.rows) {
      row_ = 0;
      ++at_;
    }
    return {first, left};
  }
  /// Asks for the next `count` lines, of rows that are whole lines.
  void fetch(std::int64_t count) {
    for (std::int64_t left = kQuarters * count; left > 0 && at_ < count_;) {
      Stretch stretch = next(left);
      left -= stretch.quarters;
      while (stretch.quarters > 0) stretch.ask(kQuarters);
    }
  }

 private:
  static constexpr std::int64_t kQuarters = 4;              // of a line
  static constexpr std::int64_t kQuarter = 64 / kQuarters;  // bytes
  struct Range {
    const char* first;
    std::int64_t row_stride;  // bytes
    std::int64_t row_bytes;
    std::int64_t rows;
    bool of_tile;  // not keys
  };
  static constexpr std::size_t kMostRanges = 256;  // three tensors' rows of a tile, and more
  std::array<Range, kMostRanges> ranges_;
  std::size_t count_ = 0;
  std::size_t at_ = 0;       // the range that is being asked for, of it
  std::int64_t row_ = 0;     // the row, and of that
  std::int64_t offset_ = 0;  // the byte
};

}  // namespace longseq::detail
