#include "datasets/describe.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>

namespace longseq {
namespace {

namespace fs = std::filesystem;

std::optional<std::int64_t> bytes_of(const fs::path& path) {
  std::error_code error;
  const auto bytes = fs::file_size(path, error);
  if (error) return std::nullopt;
  return static_cast<std::int64_t>(bytes);
}

}  // namespace

std::vector<CorpusStatus> list_corpora(const fs::path& data_dir) {
  std::vector<CorpusStatus> list;
  for (const CorpusRow& row : kCorpora) {
    const fs::path path = data_dir / row.file;
    list.push_back({&row, path, bytes_of(path)});
  }
  return list;
}

CorpusInfo corpus_info(const std::string& name_or_path, const fs::path& data_dir) {
  const TokenReader corpus = open_corpus(name_or_path, data_dir);
  constexpr std::int64_t kBlock = 1 << 20;
  std::unordered_map<std::int32_t, std::int64_t> counts;
  for (std::int64_t begin = 0; begin < corpus.size(); begin += kBlock) {
    for (const std::int32_t token : corpus.read({begin, std::min(begin + kBlock, corpus.size())}))
      ++counts[token];
  }
  CorpusInfo info{.name = corpus.name(),
                  .tokens = corpus.size(),
                  .vocabulary = corpus.vocabulary(),
                  .distinct_tokens = static_cast<std::int64_t>(counts.size()),
                  .bytes = bytes_of(corpus.path()).value_or(0),
                  .first_tokens = corpus.read({0, std::min<std::int64_t>(16, corpus.size())})};
  for (const auto& [token, count] : counts) {
    const double p = static_cast<double>(count) / static_cast<double>(corpus.size());
    info.entropy_bits -= p * std::log2(p);
  }
  return info;
}

}  // namespace longseq
