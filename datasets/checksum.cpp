#include "datasets/checksum.h"

#include <fstream>
#include <vector>

#include "datasets/program.h"
#include "datasets/scratch_file.h"

namespace longseq {

std::optional<std::string> sha256_of(const std::filesystem::path& file) {
  std::vector<std::string> command;
  if (const auto coreutils = find_program("sha256sum")) {
    command = {coreutils->string(), file.string()};
  } else if (const auto perl = find_program("shasum")) {
    command = {perl->string(), "-a", "256", file.string()};
  } else {
    return std::nullopt;
  }
  // Not beside the file: a cluster's data directory is often read-only.
  const ScratchFile digest(std::filesystem::temp_directory_path() / file.filename(), "sha256");
  if (run_program(command, digest.path) != 0) return std::nullopt;
  std::string word;
  std::ifstream(digest.path) >> word;
  return word;
}

}  // namespace longseq
