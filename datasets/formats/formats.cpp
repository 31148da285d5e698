#include "datasets/formats/formats.h"

#include <algorithm>

namespace longseq {

const FormatRow* find_format(std::string_view name) {
  const auto row = std::ranges::find(kFormats, name, &FormatRow::name);
  return row == kFormats.end() ? nullptr : &*row;
}

const FormatRow* format_of_extension(const std::filesystem::path& path) {
  const auto uncompressed = path.extension() == ".gz" ? path.stem() : path.filename();
  const std::string extension = uncompressed.extension().string();
  if (extension.empty()) return nullptr;
  const auto row = std::ranges::find_if(kFormats, [&](const FormatRow& format) {
    return std::ranges::find(format.extensions, extension) != format.extensions.end();
  });
  return row == kFormats.end() ? nullptr : &*row;
}

std::string format_names() {
  std::string names;
  for (const FormatRow& row : kFormats) names.append(names.empty() ? "" : ", ").append(row.name);
  return names;
}

}  // namespace longseq
