// What `longseq data list` and `longseq data info` show.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "datasets/corpus.h"

namespace longseq {

struct CorpusStatus {
  const CorpusRow* corpus = nullptr;
  std::filesystem::path path;
  std::optional<std::int64_t> bytes;  // of the file; none: not there yet
};

/// One entry per row of the registry, in its order.
std::vector<CorpusStatus> list_corpora(const std::filesystem::path& data_dir);

struct CorpusInfo {
  std::string name;
  std::int64_t tokens = 0;
  int vocabulary = 0;
  std::int64_t distinct_tokens = 0;
  std::int64_t bytes = 0;                  // of the file on disk
  std::vector<std::int32_t> first_tokens;  // at most 16
  double entropy_bits = 0;                 // of the unigram distribution, bits per token: -sum p log2 p
};

/// Reads the whole corpus, a block at a time. `name_or_path` as in open_corpus, which says what it throws.
CorpusInfo corpus_info(const std::string& name_or_path, const std::filesystem::path& data_dir);

}  // namespace longseq
