#include "results/replacement_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <string>
#include <system_error>

#include "results/agreement.h"

namespace longseq {
namespace {

/// Forces a file's contents, or a directory's names, to the disk.
void synchronise(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  // EINVAL: a file system that cannot synchronise directories.
  const bool failed = descriptor < 0 || (::fsync(descriptor) != 0 && errno != EINVAL);
  const int error = errno;
  if (descriptor >= 0) ::close(descriptor);
  if (failed) {
    throw std::runtime_error(fmt::format("cannot force '{}' to the disk: {}; hint: is the disk full?",
                                         path.string(), std::strerror(error)));
  }
}

std::filesystem::path directory_of(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}

void write_probe(const std::filesystem::path& path, const std::string& token) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(directory_of(path), ignored)) {
    throw std::runtime_error(fmt::format("cannot write '{}': '{}' is not a directory; hint: make it first",
                                         path.string(), directory_of(path).string()));
  }
  errno = 0;
  std::ofstream probe(partial_path(path));
  if (!(probe << token) || !probe.flush()) {
    throw std::runtime_error(
        fmt::format("cannot write '{}': {}; hint: choose an --output in a directory that "
                    "you may write to, on a disk that is not full",
                    partial_path(path).string(), std::strerror(errno)));
  }
}

void read_probe(const std::filesystem::path& path, const std::string& token, int rank) {
  std::ifstream probe(partial_path(path));
  std::string seen;
  std::getline(probe, seen);
  if (seen == token) return;
  char host[256] = "";
  ::gethostname(host, sizeof host - 1);
  throw std::runtime_error(
      fmt::format("rank {} on {} does not see '{}', which rank 0 wrote; hint: --output must lie on a file "
                  "system that all nodes share",
                  rank, host, partial_path(path).string()));
}

}  // namespace

std::filesystem::path partial_path(const std::filesystem::path& path) {
  return path.string() + ".partial";
}

void probe_partial(MPI_Comm comm, const std::filesystem::path& path) {
  int rank = 0;
  MPI_Comm_rank(comm, &rank);
  long long process = ::getpid();  // tells this probe from another launch's on a disk that is not shared
  MPI_Bcast(&process, 1, MPI_LONG_LONG, 0, comm);
  const std::string token = fmt::format("longseq {}", process);
  on_rank_0(comm, [&] { write_probe(path, token); });
  try {
    on_all_ranks(comm, [&] { read_probe(path, token, rank); });
  } catch (...) {
    if (rank == 0) drop_partial(path);
    throw;
  }
  if (rank == 0) drop_partial(path);
  MPI_Barrier(comm);
}

void start_partial(const std::filesystem::path& path, bool copy, std::int64_t growth) {
  const std::filesystem::path partial = partial_path(path);
  drop_partial(path);
  std::error_code copied;
  if (copy) std::filesystem::copy_file(path, partial, copied);
  if (copied) {
    throw std::runtime_error(fmt::format("cannot copy '{}' to '{}': {}; hint: is the disk full?",
                                         path.string(), partial.string(), copied.message()));
  }
  const int descriptor = ::open(partial.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  const off_t length = descriptor < 0 ? 0 : ::lseek(descriptor, 0, SEEK_END);
  const int error = descriptor < 0 ? errno : ::posix_fallocate(descriptor, length, growth);
  if (descriptor >= 0) ::close(descriptor);
  if (error != 0) {
    throw std::runtime_error(
        fmt::format("cannot reserve {} bytes for '{}': {}; hint: free some space or choose "
                    "another --output",
                    growth, partial.string(), std::strerror(error)));
  }
}

void commit_partial(const std::filesystem::path& path) {
  synchronise(partial_path(path));
  std::error_code error;
  std::filesystem::rename(partial_path(path), path, error);
  if (error) {
    throw std::runtime_error(fmt::format("cannot rename '{}' to '{}': {}", partial_path(path).string(),
                                         path.string(), error.message()));
  }
  synchronise(directory_of(path));
}

void drop_partial(const std::filesystem::path& path) noexcept {
  std::error_code ignored;
  std::filesystem::remove(partial_path(path), ignored);
}

}  // namespace longseq
