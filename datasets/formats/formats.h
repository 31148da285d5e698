// The file formats that a corpus may have. Adding one is one file in this folder and one row here.
#pragma once

#include <array>
#include <filesystem>
#include <string>
#include <string_view>

#include "datasets/token_reader.h"

namespace longseq {

/// Each opens a file and throws std::runtime_error, naming the path, if it is missing, empty, truncated or of
/// another kind. `detail` is what follows a second colon in PATH:FORMAT:DETAIL; only hdf5 takes one.
TokenSource open_bytes(const std::filesystem::path& path, const std::string& detail);
TokenSource open_text8(const std::filesystem::path& path, const std::string& detail);
TokenSource open_fasta(const std::filesystem::path& path, const std::string& detail);
TokenSource open_npy(const std::filesystem::path& path, const std::string& detail);
TokenSource open_hdf5(const std::filesystem::path& path, const std::string& detail);

struct FormatRow {
  std::string_view name;
  std::array<std::string_view, 4> extensions;  // with the dot; .gz after one is skipped
  TokenSource (*open)(const std::filesystem::path& path, const std::string& detail);
  bool takes_detail;
  std::string_view tokens;  // what a token is, for --help and the documentation
};

inline constexpr std::array<FormatRow, 5> kFormats{{
    {"bytes", {".txt", ".bin", ".xml", ".bytes"}, open_bytes, false, "the bytes of any file, 0 to 255"},
    {"text8", {".text8"}, open_text8, false, "space is 0, a to z are 1 to 26"},
    {"fasta",
     {".fa", ".fna", ".fasta", ".ffn"},
     open_fasta,
     false,
     "A, C, G, T (or U) are 0 to 3, every other nucleotide code is 4; headers are skipped"},
    {"npy", {".npy"}, open_npy, false, "a one-dimensional NumPy array of integers"},
    {"hdf5", {".h5", ".hdf5", ".hdf"}, open_hdf5, true, "a one-dimensional HDF5 dataset of integers"},
}};

/// The row of that name, or null.
const FormatRow* find_format(std::string_view name);

/// The row of a path's extension, or null.
const FormatRow* format_of_extension(const std::filesystem::path& path);

/// The names in the table, for messages: "bytes, text8, ...".
std::string format_names();

}  // namespace longseq
