// Runs the programs that corpora come from (bible, curl, gzip, ...), without a shell.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace longseq {

/// Where `name` is installed: on the PATH, or in /usr/games, where Debian puts some corpora's programs and
/// which a service's PATH often lacks.
std::optional<std::filesystem::path> find_program(const std::string& name);

/// Runs arguments[0], an absolute path, with standard input from nothing and standard output into `output`
/// (created or emptied); returns the exit status, or 128 + the signal that ended it.
/// Throws std::runtime_error if it cannot be started.
int run_program(const std::vector<std::string>& arguments, const std::filesystem::path& output);

}  // namespace longseq
