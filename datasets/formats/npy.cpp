// NumPy's NPY files, versions 1 to 3, one-dimensional integers of either byte order.
// Source: NEP 1 and numpy.lib.format.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <optional>
#include <regex>
#include <stdexcept>

#include "datasets/byte_source.h"
#include "datasets/formats/formats.h"

namespace longseq {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::string_view kExpected = "expected a one-dimensional array of i1, i2, i4, i8, u1, u2, u4 or u8";

struct NpyArray {
  std::int64_t data_offset = 0;
  std::int64_t size = 0;
  std::size_t item_bytes = 0;
  bool is_signed = false;
  bool big_endian = false;
};

[[noreturn]] void fail(const ByteSource& file, std::string_view what) {
  throw std::runtime_error(fmt::format("'{}': {}", file.name(), what));
}

/// Reads `size` bytes at `offset` of what must be there for the file to be whole.
std::vector<std::uint8_t> read_part(const ByteSource& file, std::int64_t offset, std::int64_t size) {
  if (offset + size > file.size()) {
    fail(file, fmt::format("is a truncated NPY file: its header needs {} bytes, the file has {}",
                           offset + size, file.size()));
  }
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(size));
  file.read(offset, bytes);
  return bytes;
}

/// The Python dictionary of the header, and where the data start.
std::pair<std::string, std::int64_t> read_header(const ByteSource& file) {
  const auto start = read_part(file, 0, std::min<std::int64_t>(8, file.size()));
  if (start.size() < 8 ||
      !std::equal(kMagic.begin(), kMagic.end(), start.begin(),
                  [](char a, std::uint8_t b) { return static_cast<std::uint8_t>(a) == b; })) {
    fail(file, "is not an NPY file: it does not start with \\x93NUMPY and a version");
  }
  if (start[6] < 1 || start[6] > 3) {
    fail(file, fmt::format("is an NPY file of version {}.{}; versions 1 to 3 are read", start[6], start[7]));
  }
  const std::int64_t width = start[6] == 1 ? 2 : 4;  // bytes of the header's length, little-endian
  std::int64_t length = 0;
  const auto digits = read_part(file, 8, width);
  for (std::int64_t i = 0; i < width; ++i)
    length |= std::int64_t{digits[static_cast<std::size_t>(i)]} << (8 * i);
  const auto text = read_part(file, 8 + width, length);
  return {std::string(text.begin(), text.end()), 8 + width + length};
}

NpyArray parse_array(const ByteSource& file) {
  const auto [header, data_offset] = read_header(file);
  std::smatch type, shape;
  static const std::regex kDescription(R"('descr'\s*:\s*'([<>=|]?)([a-zA-Z])(\d*)')");
  static const std::regex kShape(R"('shape'\s*:\s*\(([^)]*)\))");
  if (!std::regex_search(header, type, kDescription) || !std::regex_search(header, shape, kShape)) {
    fail(file, fmt::format("has an NPY header without a plain type and shape; {}", kExpected));
  }
  const std::string kind = type[2], bytes = type[3];
  if ((kind != "i" && kind != "u") || (bytes != "1" && bytes != "2" && bytes != "4" && bytes != "8")) {
    fail(file, fmt::format("holds items of type '{}{}'; {}", kind, bytes, kExpected));
  }
  static const std::regex kOneDimension(R"(\s*(\d{1,18})L?\s*,?\s*)");
  const std::string dimensions = shape[1];
  std::smatch size;
  if (!std::regex_match(dimensions, size, kOneDimension)) {
    fail(file, fmt::format("has the shape ({}); {}", dimensions, kExpected));
  }
  NpyArray array{.data_offset = data_offset,
                 .size = std::stoll(size[1]),
                 .item_bytes = static_cast<std::size_t>(bytes[0] - '0'),
                 .is_signed = kind == "i",
                 .big_endian = type[1] == ">" || (type[1] != "<" && std::endian::native == std::endian::big)};
  if (array.size == 0) fail(file, "holds no tokens; a corpus needs at least one");
  const std::int64_t present = (file.size() - data_offset) / static_cast<std::int64_t>(array.item_bytes);
  if (present < array.size) {
    fail(file, fmt::format("is a truncated NPY file: its header says {} items, the file has {}", array.size,
                           present));
  }
  return array;
}

/// The item as a number; one above the largest std::int64_t comes back as that, which no vocabulary holds.
std::int64_t item_value(const std::uint8_t* item, const NpyArray& array) {
  std::uint64_t bits = 0;
  for (std::size_t i = 0; i < array.item_bytes; ++i) {
    bits |= std::uint64_t{item[array.big_endian ? array.item_bytes - 1 - i : i]} << (8 * i);
  }
  const auto unused = static_cast<int>(64 - 8 * array.item_bytes);
  if (array.is_signed) return static_cast<std::int64_t>(bits << unused) >> unused;
  constexpr std::uint64_t kLargest = std::numeric_limits<std::int64_t>::max();
  return static_cast<std::int64_t>(std::min(bits, kLargest));
}

}  // namespace

TokenSource open_npy(const std::filesystem::path& path, const std::string& /*detail*/) {
  const ByteSource file(path);
  const NpyArray array = parse_array(file);
  const auto read = [file, array](Interval positions) {
    const std::size_t count = static_cast<std::size_t>(positions.size());
    std::vector<std::uint8_t> bytes(count * array.item_bytes);
    file.read(array.data_offset + positions.begin * static_cast<std::int64_t>(array.item_bytes), bytes);
    std::vector<std::int32_t> tokens(count);
    for (std::size_t i = 0; i < count; ++i) {
      tokens[i] = checked_token(item_value(bytes.data() + i * array.item_bytes, array), kAnyVocabulary,
                                positions.begin + static_cast<std::int64_t>(i), file.name());
    }
    return tokens;
  };
  return {.name = path.string(), .path = path, .size = array.size, .vocabulary = std::nullopt, .read = read};
}

}  // namespace longseq
