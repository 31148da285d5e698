#include "suite/code_version.h"

#include <fmt/format.h>

#include "longseq_version.h"

namespace longseq {

CodeVersion code_version() {
  return {LONGSEQ_RELEASE, LONGSEQ_COMMIT, LONGSEQ_DIRTY != 0, LONGSEQ_COMPILER, LONGSEQ_COMPILER_FLAGS};
}

std::string describe(const CodeVersion& version) {
  return fmt::format("{} ({}{})", version.release, version.commit,
                     version.dirty ? ", with uncommitted changes" : "");
}

}  // namespace longseq
