#include "datasets/make.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <sstream>
#include <stdexcept>
#include <vector>

#include "datasets/byte_source.h"
#include "datasets/checksum.h"
#include "datasets/program.h"
#include "datasets/scratch_file.h"

namespace longseq {
namespace {

namespace fs = std::filesystem;

enum class Check { identical, same_size, different };

Check check(const CorpusRow& row, const fs::path& file) {
  if (fs::file_size(file) != static_cast<std::uintmax_t>(row.bytes)) return Check::different;
  const auto digest = sha256_of(file);
  if (!digest) return Check::same_size;
  return *digest == row.sha256 ? Check::identical : Check::different;
}

bool same_content(const fs::path& a, const fs::path& b) {
  std::ifstream first(a, std::ios::binary), second(b, std::ios::binary);
  using Bytes = std::istreambuf_iterator<char>;
  return std::equal(Bytes(first), Bytes(), Bytes(second), Bytes());
}

[[noreturn]] void fail(const CorpusRow& row, std::string_view what) {
  throw std::runtime_error(fmt::format("cannot make corpus '{}': {}", row.name, what));
}

std::string install_hint(const CorpusRow& row) {
  return fmt::format(
      "install the Debian package {0} (apt-get install {0}), or pass a file of your own as PATH:{1}",
      row.package, row.format);
}

void run_package_program(const CorpusRow& row, const fs::path& output) {
  std::istringstream words{std::string(row.locator)};
  std::vector<std::string> arguments{std::istream_iterator<std::string>(words), {}};
  const auto program = find_program(arguments.front());
  if (!program) fail(row, fmt::format("no program '{}'; {}", arguments.front(), install_hint(row)));
  arguments.front() = program->string();
  const int status = run_program(arguments, output);
  if (status != 0) fail(row, fmt::format("`{}` ended with status {}", row.locator, status));
}

/// Where the package put the file, gzipped or not.
fs::path find_packaged_file(const CorpusRow& row, const fs::path& target) {
  const ScratchFile list(target, "list");
  const auto dpkg = find_program("dpkg-query");
  if (!dpkg || run_program({dpkg->string(), "-L", std::string(row.package)}, list.path) != 0) {
    fail(row, install_hint(row));
  }
  std::ifstream lines(list.path);
  for (std::string line; std::getline(lines, line);) {
    const std::string name = fs::path(line).filename();
    if (name != row.locator && name + ".gz" != row.locator) continue;
    if (fs::exists(line)) return line;
    fail(row,
         fmt::format("package {0} is installed without '{1}' (slim systems drop documentation); run `apt-get "
                     "install --reinstall -o Dpkg::Options::=--path-include={1} {0}`",
                     row.package, line));
  }
  fail(row, fmt::format("package {} has no file '{}'; {}", row.package, row.locator, install_hint(row)));
}

void unpack(const fs::path& packed, const fs::path& output) {
  const ByteSource source(packed);
  std::ofstream out(output, std::ios::binary);
  std::vector<std::uint8_t> block(1 << 20);
  for (std::int64_t offset = 0; offset < source.size(); offset += static_cast<std::int64_t>(block.size())) {
    block.resize(std::min(block.size(), static_cast<std::size_t>(source.size() - offset)));
    source.read(offset, block);
    out.write(reinterpret_cast<const char*>(block.data()), static_cast<std::streamsize>(block.size()));
  }
  if (!out.flush())
    throw std::runtime_error(fmt::format("cannot write '{}': is the disk full?", output.string()));
}

void download(const CorpusRow& row, const fs::path& target, const fs::path& output) {
  const ScratchFile archive(target, "zip");
  const std::string url(row.locator), zip = archive.path.string();
  const std::string by_hand =
      fmt::format("without a network, unpack {} elsewhere and put it at '{}', or pass its path as PATH:{}",
                  url, target.string(), row.format);
  const auto curl = find_program("curl");
  const auto wget = find_program("wget");
  if (!curl && !wget) fail(row, fmt::format("neither curl nor wget is installed; {}", by_hand));
  const std::vector<std::string> fetch =
      curl ? std::vector<std::string>{curl->string(), "-fsSL", "--connect-timeout", "20", "-o", zip, url}
           : std::vector<std::string>{wget->string(), "-q", "--timeout=20", "--tries=2", "-O", zip, url};
  const int status = run_program(fetch, output);
  if (status != 0) fail(row, fmt::format("{} ended with status {}; {}", fetch.front(), status, by_hand));

  // gzip unpacks a zip archive of one deflated member too, and unlike unzip it is always there.
  const auto gzip = find_program("gzip");
  if (!gzip) fail(row, "gzip is not installed");
  if (run_program({gzip->string(), "-S", ".zip", "-dc", zip}, output) != 0) {
    fail(row, fmt::format("what came from {} is no zip archive; {}", url, by_hand));
  }
}

void produce(const CorpusRow& row, const fs::path& target, const fs::path& output) {
  switch (row.origin) {
    case CorpusOrigin::program_output:
      return run_package_program(row, output);
    case CorpusOrigin::packaged_file:
      return unpack(find_packaged_file(row, target), output);
    case CorpusOrigin::download:
      return download(row, target, output);
  }
}

std::string describe_check(const CorpusRow& row, Check result, std::uintmax_t bytes) {
  switch (result) {
    case Check::identical:
      return fmt::format("{} bytes, SHA-256 as expected", bytes);
    case Check::same_size:
      return fmt::format("{} bytes as expected, SHA-256 not checked (no sha256sum here)", bytes);
    case Check::different:
      break;
  }
  return fmt::format("{} bytes, another edition than the reference ({} bytes, SHA-256 {})", bytes, row.bytes,
                     row.sha256);
}

}  // namespace

MadeCorpus make_corpus(const CorpusRow& row, const fs::path& data_dir) {
  std::error_code error;
  fs::create_directories(data_dir, error);
  if (error) fail(row, fmt::format("cannot create '{}': {}", data_dir.string(), error.message()));
  const fs::path target = data_dir / row.file;
  const bool exists = fs::exists(target);
  if (exists) {
    const Check present = check(row, target);
    if (present != Check::different) {
      return {target, row.bytes, true,
              "already there: " + describe_check(row, present, fs::file_size(target))};
    }
  }

  const ScratchFile fresh(target, "partial");
  produce(row, target, fresh.path);
  const auto bytes = fs::file_size(fresh.path);
  const Check result = check(row, fresh.path);
  if (bytes == 0) fail(row, fmt::format("'{}' gave no bytes", row.locator));
  if (row.origin == CorpusOrigin::download && result == Check::different) {
    fail(row, fmt::format(
                  "what came from {} has {} bytes or another SHA-256 than expected ({} bytes, {}); try again "
                  "or get it elsewhere",
                  row.locator, bytes, row.bytes, row.sha256));
  }
  if (exists && same_content(fresh.path, target)) {
    return {target, static_cast<std::int64_t>(bytes), true,
            "already there: " + describe_check(row, result, bytes)};
  }
  fs::rename(fresh.path, target, error);
  if (error) fail(row, fmt::format("cannot write '{}': {}", target.string(), error.message()));
  return {target, static_cast<std::int64_t>(bytes), false,
          fmt::format("{} from {}{}: {}", exists ? "replaced" : "made",
                      row.package.empty() ? "" : fmt::format("package {}, ", row.package), row.locator,
                      describe_check(row, result, bytes))};
}

MadeCorpus make_corpus(const std::string& name, const fs::path& data_dir) {
  const CorpusRow* row = find_corpus(name);
  if (row == nullptr) {
    throw std::invalid_argument(
        fmt::format("no corpus '{}' can be made; the corpora are {}", name, corpus_names()));
  }
  return make_corpus(*row, data_dir);
}

}  // namespace longseq
