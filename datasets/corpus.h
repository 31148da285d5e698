// The corpora that longseq knows by name, and any other file by its path.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "datasets/token_reader.h"

namespace longseq {

/// How `longseq data make` obtains a corpus.
enum class CorpusOrigin {
  program_output,  // what a program of a Debian package prints
  packaged_file,   // a file of a Debian package, gzipped or not
  download         // a zip archive with one member, by URL
};

struct CorpusRow {
  std::string_view name;
  std::string_view format;  // a name in kFormats
  int vocabulary;
  std::string_view file;  // its name in the data directory
  CorpusOrigin origin;
  std::string_view package;  // Debian package that has it; empty for downloads
  std::string_view locator;  // command line, file name within the package, or URL
  std::int64_t bytes;        // of the file in the data directory, reference edition
  std::string_view sha256;   // of the same
  std::string_view description;
};

/// The open set of corpora: adding one is adding one row. The command line, `longseq data` and the tests
/// read this table.
inline constexpr std::array<CorpusRow, 4> kCorpora{{
    {"english", "bytes", 256, "english.txt", CorpusOrigin::program_output, "bible-kjv",
     "bible -f Gen1:1-Rev22:21", 4404412, "cd45f0c9cedab8e4439bd6486c8952c77cc8b0ecc5d1f6ae3513f2039f47229d",
     "King James Bible, one verse a line"},
    {"genome", "fasta", 5, "genome.fa", CorpusOrigin::packaged_file, "bowtie-examples", "NC_008253.fna.gz",
     5009545, "cdd0874c881adf3e1819d22b7e49cffa3c761b0793a1b1f10b1c074eeadb4789",
     "Escherichia coli 536, complete genome (NC_008253)"},
    {"enwik8", "bytes", 256, "enwik8", CorpusOrigin::download, "", "http://mattmahoney.net/dc/enwik8.zip",
     100000000, "2b49720ec4d78c3c9fabaee6e4179a5e997302b3a70029f30f2d582218c024a8",
     "the first 10^8 bytes of the English Wikipedia of 2006-03-03, as XML"},
    {"text8", "text8", 27, "text8", CorpusOrigin::download, "", "http://mattmahoney.net/dc/text8.zip",
     100000000, "6e890197040d37d85beb962ae1f041ff1d9a9ca8d20c7d99c85027eebf51dca7",
     "English Wikipedia text cleaned to a-z and space, 10^8 characters"},
}};

/// The row of that name, or null.
const CorpusRow* find_corpus(std::string_view name);

/// The names in the table, for messages: "english, genome, ...".
std::string corpus_names();

/// Opens a corpus of the registry (its file is looked for in data_dir), or a file: `PATH`, whose format
/// follows from its extension, `PATH:FORMAT`, or for hdf5 `PATH:hdf5:/dataset/name` (default `/tokens`).
/// Throws std::invalid_argument for a name, path or format that is not known, std::runtime_error for a file
/// that is missing (saying how to get it), empty, truncated or not what its format says.
TokenReader open_corpus(const std::string& name_or_path, const std::filesystem::path& data_dir);

}  // namespace longseq
