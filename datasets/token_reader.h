// A corpus that has been opened: how many tokens, of what vocabulary, and any slice of them by offset.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/positions.h"

namespace longseq {

/// What a format supplies; TokenReader adds the checks that hold for every format.
struct TokenSource {
  std::string name;               // the corpus or the path, for messages
  std::filesystem::path path;     // the file
  std::int64_t size = 0;          // tokens, at least 1
  std::optional<int> vocabulary;  // none: the file does not say, so it is read once to find out
  std::function<std::vector<std::int32_t>(Interval)> read;  // tokens of a slice that lies inside the file
};

/// The value as a token. Throws std::runtime_error, naming the position, unless 0 <= value < vocabulary.
std::int32_t checked_token(std::int64_t value, int vocabulary, std::int64_t position,
                           const std::string& name);

/// The vocabulary to check against where none is declared.
inline constexpr int kAnyVocabulary = std::numeric_limits<std::int32_t>::max();

/// Reads slices of a sequence of tokens. Copies share the file. Not for use by several threads at once:
/// HDF5 and zlib keep a place in the file.
class TokenReader {
 public:
  explicit TokenReader(TokenSource source) : source_(std::move(source)) {}

  const std::string& name() const { return source_.name; }
  const std::filesystem::path& path() const { return source_.path; }

  /// The number of tokens.
  std::int64_t size() const { return source_.size; }

  /// Every token is less than this. Where the file does not declare it (NPY; HDF5 without a `vocabulary`
  /// attribute) the first call reads the whole file for its largest token. Throws as read() does.
  int vocabulary() const;

  /// Tokens [positions.begin, positions.end). Throws std::invalid_argument if the slice is not inside the
  /// corpus, std::runtime_error, naming the position, if a token is negative or not below the vocabulary, and
  /// if the file has become shorter.
  std::vector<std::int32_t> read(Interval positions) const;

 private:
  TokenSource source_;
  mutable std::optional<int> counted_vocabulary_;
};

}  // namespace longseq
