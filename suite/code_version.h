// Which code this is, from a header that CMake writes anew at every build (cmake/LongseqVersion.cmake).
#pragma once

#include <string>

namespace longseq {

struct CodeVersion {
  std::string release;   // the project's version: "0.1.0"
  std::string commit;    // of git describe; "unknown" where there is no git
  bool dirty = false;    // the tree had changes that were not committed
  std::string compiler;  // "GNU 12.2.0"
  std::string compiler_flags;
};

CodeVersion code_version();

/// For --version: "0.1.0 (d3b07384, with uncommitted changes)".
std::string describe(const CodeVersion& version);

}  // namespace longseq
