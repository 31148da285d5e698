#include "datasets/byte_source.h"
#include "datasets/formats/formats.h"

namespace longseq {

TokenSource open_bytes(const std::filesystem::path& path, const std::string& /*detail*/) {
  const ByteSource file(path);
  const auto read = [file](Interval positions) {
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(positions.size()));
    file.read(positions.begin, bytes);
    return std::vector<std::int32_t>(bytes.begin(), bytes.end());
  };
  return {.name = path.string(), .path = path, .size = file.size(), .vocabulary = 256, .read = read};
}

}  // namespace longseq
