#include "datasets/token_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

namespace longseq {

std::int32_t checked_token(std::int64_t value, int vocabulary, std::int64_t position,
                           const std::string& name) {
  if (value < 0) {
    throw std::runtime_error(
        fmt::format("'{}': token {} at position {} is negative; tokens count from 0", name, value, position));
  }
  if (value >= vocabulary) {
    throw std::runtime_error(
        fmt::format("'{}': token {} at position {} is not below the vocabulary's size, {}", name, value,
                    position, vocabulary));
  }
  return static_cast<std::int32_t>(value);
}

int TokenReader::vocabulary() const {
  if (source_.vocabulary) return *source_.vocabulary;
  if (!counted_vocabulary_) {
    constexpr std::int64_t kBlock = 1 << 20;
    std::int32_t largest = 0;
    for (std::int64_t begin = 0; begin < size(); begin += kBlock) {
      const auto tokens = read({begin, std::min(begin + kBlock, size())});
      largest = std::max(largest, *std::max_element(tokens.begin(), tokens.end()));
    }
    counted_vocabulary_ = largest + 1;
  }
  return *counted_vocabulary_;
}

std::vector<std::int32_t> TokenReader::read(Interval positions) const {
  if (positions.begin < 0 || positions.end < positions.begin) {
    throw std::invalid_argument(
        fmt::format("'{}': tokens {} to {} were asked for; a slice is 0 <= begin <= end", name(),
                    positions.begin, positions.end));
  }
  if (positions.end > size()) {
    throw std::invalid_argument(fmt::format(
        "corpus '{}' has {} tokens, but tokens {} to {} were asked for; choose a sequence length of at "
        "most {} or a longer corpus",
        name(), size(), positions.begin, positions.end, size()));
  }
  if (positions.empty()) return {};
  return source_.read(positions);
}

}  // namespace longseq
