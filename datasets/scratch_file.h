// A file that is gone again when its owner goes out of scope, whatever happened.
#pragma once

#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <system_error>

namespace longseq {

/// Names a file beside `target`, and this process's alone; creates nothing.
struct ScratchFile {
  std::filesystem::path path;

  ScratchFile(const std::filesystem::path& target, const std::string& what)
      : path(fmt::format("{}.{}.{}", target.string(), what, getpid())) {}
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;
  ~ScratchFile() {
    std::error_code ignored;
    std::filesystem::remove(path, ignored);
  }
};

}  // namespace longseq
