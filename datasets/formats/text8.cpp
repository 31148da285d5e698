// The format of text8 (M. Mahoney, "About the test data", 2006): the letters a to z and single spaces,
// nothing else.
#include <fmt/format.h>

#include <stdexcept>

#include "datasets/byte_source.h"
#include "datasets/formats/formats.h"

namespace longseq {
namespace {

std::int32_t token_of(std::uint8_t byte, std::int64_t offset, const std::string& name) {
  if (byte == ' ') return 0;
  if (byte >= 'a' && byte <= 'z') return byte - 'a' + 1;
  throw std::runtime_error(
      fmt::format("'{}': byte 0x{:02X} at offset {} is outside the text8 alphabet (a to z and space); use "
                  "PATH:bytes for other text",
                  name, byte, offset));
}

}  // namespace

TokenSource open_text8(const std::filesystem::path& path, const std::string& /*detail*/) {
  const ByteSource file(path);
  const auto read = [file](Interval positions) {
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(positions.size()));
    file.read(positions.begin, bytes);
    std::vector<std::int32_t> tokens(bytes.size());
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      tokens[i] = token_of(bytes[i], positions.begin + static_cast<std::int64_t>(i), file.name());
    }
    return tokens;
  };
  return {.name = path.string(), .path = path, .size = file.size(), .vocabulary = 27, .read = read};
}

}  // namespace longseq
