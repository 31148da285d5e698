#include "datasets/byte_source.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <vector>

namespace longseq {
namespace {

[[noreturn]] void fail(const std::string& name, std::string_view what) {
  throw std::runtime_error(fmt::format("'{}': {}", name, what));
}

}  // namespace

/// Exactly one of the two is open.
struct ByteSource::File {
  int descriptor = -1;
  gzFile gzip = nullptr;

  File() = default;
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() {
    if (gzip != nullptr) gzclose_r(gzip);
    if (descriptor >= 0) close(descriptor);
  }

  std::size_t read_plain(const std::string& name, std::int64_t offset, std::span<std::uint8_t> bytes) const {
    std::size_t done = 0;
    while (done < bytes.size()) {
      const ssize_t got =
          pread(descriptor, bytes.data() + done, bytes.size() - done, offset + static_cast<off_t>(done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) fail(name, fmt::format("cannot be read: {}", std::strerror(errno)));
      if (got == 0) break;
      done += static_cast<std::size_t>(got);
    }
    return done;
  }

  /// Reads on from where the file stands.
  std::size_t read_gzip(const std::string& name, std::span<std::uint8_t> bytes) const {
    constexpr std::size_t kMost = 1 << 30;  // gzread counts in int
    std::size_t done = 0;
    while (done < bytes.size()) {
      const auto want = static_cast<unsigned>(std::min(kMost, bytes.size() - done));
      const int got = gzread(gzip, bytes.data() + done, want);
      int error = Z_OK;
      const char* message = gzerror(gzip, &error);
      if (error == Z_BUF_ERROR) fail(name, "is a truncated gzip file; make or copy it again");
      if (got < 0 || error < 0) fail(name, fmt::format("is a damaged gzip file: {}", message));
      if (got == 0) break;
      done += static_cast<std::size_t>(got);
    }
    return done;
  }
};

ByteSource::ByteSource(const std::filesystem::path& path) : name_(path.string()), file_(new File) {
  file_->descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file_->descriptor < 0) fail(name_, fmt::format("cannot be opened: {}", std::strerror(errno)));
  struct stat status {};
  if (fstat(file_->descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
    fail(name_, "is not a regular file; a corpus is read by offset");
  }
  size_ = status.st_size;
  if (size_ == 0) fail(name_, "is empty; a corpus needs at least one token");
  if (path.extension() != ".gz") return;

  file_->gzip = gzdopen(file_->descriptor, "rb");
  if (file_->gzip == nullptr) fail(name_, "cannot be opened by zlib: out of memory");
  file_->descriptor = -1;  // zlib owns it now
  gzbuffer(file_->gzip, 1 << 17);
  if (gzdirect(file_->gzip) != 0) fail(name_, "ends in .gz but is not a gzip file");
  std::vector<std::uint8_t> block(1 << 20);
  size_ = 0;
  while (const std::size_t got = file_->read_gzip(name_, block)) size_ += static_cast<std::int64_t>(got);
  if (size_ == 0) fail(name_, "decompresses to nothing; a corpus needs at least one token");
}

void ByteSource::read(std::int64_t offset, std::span<std::uint8_t> bytes) const {
  std::size_t got = 0;
  if (file_->gzip == nullptr) {
    got = file_->read_plain(name_, offset, bytes);
  } else {
    if (gztell(file_->gzip) != offset && gzseek(file_->gzip, offset, SEEK_SET) != offset) {
      fail(name_, fmt::format("cannot be decompressed up to byte {}", offset));
    }
    got = file_->read_gzip(name_, bytes);
  }
  if (got < bytes.size()) {
    fail(name_, fmt::format("ends at byte {}, but {} bytes from byte {} were expected: it has become shorter",
                            offset + static_cast<std::int64_t>(got), bytes.size(), offset));
  }
}

}  // namespace longseq
