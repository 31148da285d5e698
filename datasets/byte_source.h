// A file's bytes by offset; a path ending in .gz is decompressed on the way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

namespace longseq {

/// Reads bytes of a file by offset: plain files with pread, gzipped ones by decompressing up to the place
/// (going back starts again, so unpack a large file that is read often). Copies share the open file.
class ByteSource {
 public:
  /// Throws std::runtime_error, naming the path, if the file cannot be opened, is empty, or is a truncated or
  /// damaged gzip file (a gzipped file is read once to the end, for its size).
  explicit ByteSource(const std::filesystem::path& path);

  const std::string& name() const { return name_; }

  /// Bytes, after decompression.
  std::int64_t size() const { return size_; }

  /// Fills `bytes` from `offset`; fewer are left in the file than that only if it was cut since:
  /// std::runtime_error.
  void read(std::int64_t offset, std::span<std::uint8_t> bytes) const;

 private:
  struct File;
  std::string name_;
  std::shared_ptr<File> file_;
  std::int64_t size_ = 0;
};

}  // namespace longseq
