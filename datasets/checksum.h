// The SHA-256 of a file, by the system's own program.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace longseq {

/// In lower-case hexadecimal; nothing where neither sha256sum nor shasum is installed or the file cannot be
/// read.
std::optional<std::string> sha256_of(const std::filesystem::path& file);

}  // namespace longseq
