// Obtains the corpora of the registry: `longseq data make NAME`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "datasets/corpus.h"

namespace longseq {

struct MadeCorpus {
  std::filesystem::path path;
  std::int64_t bytes = 0;
  bool reused = false;   // a good file was there already and was left alone
  std::string happened;  // one line: where it came from and how far it was checked
};

/// Puts corpus `name` of the registry into data_dir (created if needed): runs the package's program, unpacks
/// the package's file, or downloads. The file is written beside, checked and renamed; one that is already
/// right is left alone. A download whose size or SHA-256 differs is refused; another edition from a package
/// is kept, and said. Throws std::invalid_argument for an unknown name, std::runtime_error, saying what to
/// install or what to do without a network, if it cannot be had.
MadeCorpus make_corpus(const std::string& name, const std::filesystem::path& data_dir);

/// The same for a row that need not be in the registry.
MadeCorpus make_corpus(const CorpusRow& row, const std::filesystem::path& data_dir);

}  // namespace longseq
