#include "datasets/make.h"

#include <fmt/format.h>

#include "datasets/describe.h"
#include "datasets/program.h"
#include "datasets/test_files.h"

namespace longseq {
namespace {

namespace fs = std::filesystem;
using Tokens = std::vector<std::int32_t>;

std::size_t files_in(const fs::path& directory) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(directory), fs::directory_iterator{}));
}

bool has_package(const std::string& package) {
  const TemporaryDirectory scratch;
  const auto dpkg = find_program("dpkg-query");
  return dpkg && run_program({dpkg->string(), "-L", package}, scratch.path() / "list") == 0;
}

CorpusRow row_with(CorpusOrigin origin, std::string_view locator) {
  return {"tiny",
          "bytes",
          256,
          "tiny.txt",
          origin,
          origin == CorpusOrigin::download ? "" : "no-such-package",
          locator,
          19,
          "9ecb36561341d18eb65484e833efea61edc74b84cf5e6ae1b81c63533e25fc8f",
          "the SHA-256 is that of `printf 'the quick brown fox' | sha256sum`"};
}

// Expected numbers of the two packaged corpora: counted with Python's collections.Counter on the same files.
TEST(MakeCorpus, English) {
  if (!find_program("bible")) GTEST_SKIP() << "the Debian package bible-kjv is not installed";
  const TemporaryDirectory data;
  const MadeCorpus made = make_corpus("english", data.path() / "made" / "here");
  EXPECT_EQ(made.bytes, 4404412);
  EXPECT_FALSE(made.reused);
  expect_contains(made.happened, "SHA-256 as expected");
  const CorpusInfo info = corpus_info("english", data.path() / "made" / "here");
  EXPECT_EQ(info.tokens, 4404412);
  EXPECT_EQ(info.distinct_tokens, 73);
  EXPECT_NEAR(info.entropy_bits, 4.544587695390584, 1e-12);
  const TokenReader corpus = open_corpus("english", data.path() / "made" / "here");
  EXPECT_EQ(corpus.read({2000000, 2000006}), (Tokens{32, 97, 110, 100, 32, 99}));
  EXPECT_TRUE(make_corpus("english", data.path() / "made" / "here").reused);
}

TEST(MakeCorpus, Genome) {
  if (!has_package("bowtie-examples")) GTEST_SKIP() << "the Debian package bowtie-examples is not installed";
  const TemporaryDirectory data;
  const MadeCorpus made = make_corpus("genome", data.path());
  EXPECT_EQ(made.bytes, 5009545);
  EXPECT_EQ(files_in(data.path()), 1u);
  const CorpusInfo info = corpus_info("genome", data.path());
  EXPECT_EQ(info.tokens, 4938920);
  EXPECT_EQ(info.distinct_tokens, 4);
  EXPECT_NEAR(info.entropy_bits, 1.9999186960226891, 1e-12);
  const TokenReader corpus = open_corpus("genome", data.path());
  EXPECT_EQ(corpus.read({3000000, 3000010}), (Tokens{3, 3, 0, 3, 1, 1, 0, 1, 0, 2}));
  EXPECT_EQ(corpus.read({4938916, 4938920}), (Tokens{3, 3, 3, 1}));
}

TEST(MakeCorpus, ProgramThatIsMissingFailsOrPrintsAnotherEdition) {
  const TemporaryDirectory data;
  const auto error = [&](std::string_view command) {
    return message_of<std::runtime_error>(
        [&] { make_corpus(row_with(CorpusOrigin::program_output, command), data.path()); });
  };
  expect_contains(error("no-such-program-here"), "install the Debian package no-such-package");
  expect_contains(error("false"), "`false` ended with status 1");
  expect_contains(error("true"), "'true' gave no bytes");
  EXPECT_EQ(files_in(data.path()), 0u);

  const MadeCorpus made = make_corpus(row_with(CorpusOrigin::program_output, "echo other"), data.path());
  EXPECT_EQ(made.bytes, 6);
  EXPECT_FALSE(made.reused);
  expect_contains(made.happened, "another edition than the reference");
  EXPECT_TRUE(make_corpus(row_with(CorpusOrigin::program_output, "echo other"), data.path()).reused);
  expect_contains(message_of<std::runtime_error>(
                      [&] { make_corpus(row_with(CorpusOrigin::packaged_file, "x.gz"), data.path()); }),
                  "install the Debian package no-such-package");
}

TEST(MakeCorpus, GoodFileStaysBadFileGoes) {
  const TemporaryDirectory data;
  const CorpusRow row = row_with(CorpusOrigin::program_output, "printf the\\040quick\\040brown\\040fox");
  data.write("tiny.txt", "the quick brown dog");
  const MadeCorpus replaced = make_corpus(row, data.path());
  EXPECT_FALSE(replaced.reused);
  expect_contains(replaced.happened, "replaced from package no-such-package");
  const auto time = fs::last_write_time(replaced.path);
  EXPECT_TRUE(make_corpus(row, data.path()).reused);
  EXPECT_EQ(fs::last_write_time(replaced.path), time);
  const CorpusRow failing = row_with(CorpusOrigin::program_output, "false");
  EXPECT_TRUE(make_corpus(failing, data.path()).reused);  // a good file needs no program
  EXPECT_EQ(files_in(data.path()), 1u);
}

/// `zip` of "the quick brown fox" as the member "tiny", by Python's zipfile.
const std::string kZip(
    "\x50\x4b\x03\x04\x14\x00\x00\x00\x08\x00\x00\x00\x21\x58\xca\x02\xc1\x91\x15\x00\x00\x00\x13\x00\x00\x00"
    "\x04\x00\x00\x00\x74\x69\x6e\x79\x2b\xc9\x48\x55\x28\x2c\xcd\x4c\xce\x56\x48\x2a\xca\x2f\xcf\x53\x48\xcb"
    "\xaf\x00\x00\x50\x4b\x01\x02\x14\x03\x14\x00\x00\x00\x08\x00\x00\x00\x21\x58\xca\x02\xc1\x91\x15\x00\x00"
    "\x00\x13\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80\x01\x00\x00\x00\x00\x74\x69\x6e"
    "\x79\x50\x4b\x05\x06\x00\x00\x00\x00\x01\x00\x01\x00\x32\x00\x00\x00\x37\x00\x00\x00\x00\x00",
    127);

TEST(MakeCorpus, Download) {
  if (!find_program("curl")) GTEST_SKIP() << "wget does not fetch file:// addresses";
  const TemporaryDirectory data;
  const std::string url = "file://" + data.write("tiny.zip", kZip).string();
  const MadeCorpus made = make_corpus(row_with(CorpusOrigin::download, url), data.path());
  EXPECT_EQ(made.bytes, 19);
  expect_contains(made.happened, "SHA-256 as expected");
  EXPECT_EQ(open_corpus(made.path.string(), "").read({4, 7}), (Tokens{'q', 'u', 'i'}));
  EXPECT_EQ(files_in(data.path()), 2u);
}

TEST(MakeCorpus, DownloadThatFailsOrDiffers) {
  if (!find_program("curl")) GTEST_SKIP() << "wget does not fetch file:// addresses";
  const TemporaryDirectory data;
  CorpusRow row = row_with(CorpusOrigin::download, "file:///no/such/file.zip");
  const auto error = [&] { return message_of<std::runtime_error>([&] { make_corpus(row, data.path()); }); };
  expect_contains(error(), "without a network, unpack file:///no/such/file.zip elsewhere and put it at");

  const std::string url = "file://" + data.write("tiny.zip", kZip).string();
  row.locator = url;
  row.sha256 = "0000000000000000000000000000000000000000000000000000000000000000";
  expect_contains(error(), "has 19 bytes or another SHA-256 than expected");
  data.write("tiny.zip", kZip.substr(0, 40));
  expect_contains(error(), "is no zip archive");
  EXPECT_EQ(files_in(data.path()), 1u);  // nothing half made is left
}

TEST(MakeCorpus, UnknownNameAndUnwritableDirectory) {
  const TemporaryDirectory data;
  expect_contains(message_of<std::invalid_argument>([&] { make_corpus("klingon", data.path()); }),
                  "the corpora are english, genome, enwik8, text8");
  const fs::path file = data.write("file", "x");
  expect_contains(message_of<std::runtime_error>([&] { make_corpus("english", file / "below"); }),
                  "cannot create");
}

}  // namespace
}  // namespace longseq
