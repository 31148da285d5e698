// Rows on their way into the second-level cache. Not for use outside kernels/.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace longseq::detail {

/// Rows that will be wanted soon, asked for a few at a time between products: they come from memory, and all
/// at once would hold the products up.
class Coming {
 public:
  static constexpr std::size_t kMostRows = 384;

  void clear() { count_ = at_ = 0; }
  void add(const void* row) { rows_[count_++] = static_cast<const char*>(row); }
  /// Shares the rows, of that many bytes, out among `calls` calls of fetch().
  void share_out(std::int64_t row_bytes, std::int64_t calls) {
    row_bytes_ = row_bytes;
    rows_per_call_ =
        calls > 0 ? (count_ + static_cast<std::size_t>(calls) - 1) / static_cast<std::size_t>(calls) : 0;
  }
  void fetch() {
    for (std::size_t n = 0; n < rows_per_call_ && at_ < count_; ++n, ++at_) {
      const char* const row = rows_[at_];
      for (std::int64_t offset = 0; offset < row_bytes_; offset += kLine)
        __builtin_prefetch(row + offset, 0, 2);
    }
  }

 private:
  static constexpr std::int64_t kLine = 64;
  std::array<const char*, kMostRows> rows_;
  std::size_t count_ = 0;
  std::size_t at_ = 0;
  std::size_t rows_per_call_ = 0;
  std::int64_t row_bytes_ = 0;
};

}  // namespace longseq::detail
