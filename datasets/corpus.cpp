#include "datasets/corpus.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <stdexcept>

#include "datasets/formats/formats.h"

namespace longseq {
namespace {

namespace fs = std::filesystem;

/// What is wrong with the corpus's file in the data directory, and what to do about it; nothing if it will
/// do.
std::optional<std::string> complaint(const CorpusRow& row, const fs::path& path) {
  std::error_code error;
  const auto bytes = fs::file_size(path, error);
  if (error) {
    const std::string need = row.package.empty()
                                 ? fmt::format("it is downloaded from {}", row.locator)
                                 : fmt::format("it comes from the Debian package {}", row.package);
    return fmt::format("corpus '{}': no file '{}'; run `longseq data make {}` ({})", row.name, path.string(),
                       row.name, need);
  }
  // Editions of a package may differ in size; what is downloaded has one.
  if (row.origin == CorpusOrigin::download && bytes != static_cast<std::uintmax_t>(row.bytes)) {
    return fmt::format("corpus '{}': '{}' has {} bytes, expected {}; run `longseq data make {}`", row.name,
                       path.string(), bytes, row.bytes, row.name);
  }
  return std::nullopt;
}

struct Request {
  fs::path path;
  const FormatRow* format = nullptr;
  std::string detail;
};

/// Splits PATH, PATH:FORMAT and PATH:FORMAT:DETAIL; a path may itself contain colons, and a file of the whole
/// name comes first.
Request parse_request(const std::string& text) {
  if (fs::exists(text)) {
    const FormatRow* format = format_of_extension(text);
    if (format == nullptr) {
      throw std::invalid_argument(
          fmt::format("'{}': its extension names no format; write '{}:FORMAT' with one of {}", text, text,
                      format_names()));
    }
    return {text, format, ""};
  }
  for (auto colon = text.find(':'); colon != std::string::npos; colon = text.find(':', colon + 1)) {
    const std::string path = text.substr(0, colon);
    const std::string rest = text.substr(colon + 1);
    const std::string name = rest.substr(0, rest.find(':'));
    const std::string detail = name.size() < rest.size() ? rest.substr(name.size() + 1) : "";
    const FormatRow* format = find_format(name);
    if (format == nullptr && !fs::exists(path)) continue;
    if (format == nullptr || (!detail.empty() && !format->takes_detail)) {
      throw std::invalid_argument(
          fmt::format("'{}': '{}' is not a format; the formats are {}, and hdf5:/dataset/name", text, rest,
                      format_names()));
    }
    return {path, format, detail};
  }
  throw std::invalid_argument(
      fmt::format("dataset '{}' is neither a file nor a corpus; the corpora are {}, a file is PATH or "
                  "PATH:FORMAT with one of {}",
                  text, corpus_names(), format_names()));
}

}  // namespace

const CorpusRow* find_corpus(std::string_view name) {
  const auto row = std::ranges::find(kCorpora, name, &CorpusRow::name);
  return row == kCorpora.end() ? nullptr : &*row;
}

std::string corpus_names() {
  std::string names;
  for (const CorpusRow& row : kCorpora) names.append(names.empty() ? "" : ", ").append(row.name);
  return names;
}

TokenReader open_corpus(const std::string& name_or_path, const fs::path& data_dir) {
  if (const CorpusRow* row = find_corpus(name_or_path)) {
    const fs::path path = data_dir / row->file;
    if (const auto wrong = complaint(*row, path)) throw std::runtime_error(*wrong);
    TokenSource source = find_format(row->format)->open(path, "");
    source.name = name_or_path;
    return TokenReader(std::move(source));
  }
  const Request request = parse_request(name_or_path);
  return TokenReader(request.format->open(request.path, request.detail));
}

}  // namespace longseq
