// The registry, how a dataset is named, slices, and what is told about a corpus.
#include "datasets/corpus.h"

#include <fmt/format.h>

#include <set>

#include "datasets/describe.h"
#include "datasets/formats/formats.h"
#include "datasets/test_files.h"

namespace longseq {
namespace {

namespace fs = std::filesystem;
using Tokens = std::vector<std::int32_t>;

TEST(Registry, RowsAreDistinctAndNameKnownFormats) {
  std::set<std::string_view> names, files;
  for (const CorpusRow& row : kCorpora) {
    SCOPED_TRACE(row.name);
    EXPECT_TRUE(names.insert(row.name).second);
    EXPECT_TRUE(files.insert(row.file).second);
    EXPECT_NE(find_format(row.format), nullptr);
    EXPECT_EQ(row.sha256.size(), 64u);
    EXPECT_EQ(row.package.empty(), row.origin == CorpusOrigin::download);
  }
}

TEST(Registry, VocabularyIsTheFormats) {
  const TemporaryDirectory files;
  for (const CorpusRow& row : kCorpora) {
    if (row.origin == CorpusOrigin::download) {
      files.write(std::string(row.file), "");
      fs::resize_file(files.path() / row.file, static_cast<std::uintmax_t>(row.bytes));
    } else {
      files.write(std::string(row.file), ">a\nACGT");
    }
    const TokenReader corpus = open_corpus(std::string(row.name), files.path());
    EXPECT_EQ(corpus.vocabulary(), row.vocabulary) << row.name;
    EXPECT_EQ(corpus.name(), row.name);
  }
}

TEST(Registry, MissingCorpusSaysHowToGetIt) {
  const TemporaryDirectory files;
  const auto error = [&](const std::string& name) {
    return message_of<std::runtime_error>([&] { open_corpus(name, files.path()); });
  };
  expect_contains(error("english"),
                  "run `longseq data make english` (it comes from the Debian package bible-kjv)");
  expect_contains(error("enwik8"), "it is downloaded from http://mattmahoney.net/dc/enwik8.zip");
  files.write("text8", "too short");
  expect_contains(error("text8"), "has 9 bytes, expected 100000000");
}

TEST(Registry, ListSaysWhatIsThere) {
  const TemporaryDirectory files;
  files.write("genome.fa", ">a\nACGT");
  const auto list = list_corpora(files.path());
  ASSERT_EQ(list.size(), kCorpora.size());
  for (const CorpusStatus& status : list) {
    EXPECT_EQ(status.bytes.has_value(), status.corpus->name == "genome");
    EXPECT_EQ(status.path, files.path() / status.corpus->file);
  }
  EXPECT_EQ(list[1].bytes, 7);
}

TEST(DatasetName, ExtensionFormatAndColons) {
  const TemporaryDirectory files;
  const std::string folder = files.path().string() + "/";
  files.write("a.fa", ">a\nAC");
  files.write("b:c", ">");
  files.write("noformat", ">a\nAC");
  EXPECT_EQ(open_corpus(folder + "a.fa", "").size(), 2);
  EXPECT_EQ(open_corpus(folder + "a.fa:bytes", "").size(), 5);
  EXPECT_EQ(open_corpus(folder + "b:c:bytes", "").read({0, 1}), (Tokens{'>'}));
  EXPECT_EQ(open_corpus(folder + "noformat:fasta", "").size(), 2);

  const auto error = [&](const std::string& name) {
    return message_of<std::invalid_argument>([&] { open_corpus(name, ""); });
  };
  expect_contains(error(folder + "noformat"), "its extension names no format");
  expect_contains(error(folder + "a.fa:csv"),
                  "'csv' is not a format; the formats are bytes, text8, fasta, npy, hdf5");
  expect_contains(error(folder + "a.fa:bytes:/x"), "'bytes:/x' is not a format");
  expect_contains(error("englsh"), "the corpora are english, genome, enwik8, text8");
}

TEST(Slice, MustLieInsideTheCorpus) {
  const TemporaryDirectory files;
  const TokenReader corpus = open_corpus(files.write("a.txt", "0123456789").string(), "");
  const auto error = [&](Interval slice) {
    return message_of<std::invalid_argument>([&] { corpus.read(slice); });
  };
  expect_contains(error({0, 4096}), "has 10 tokens, but tokens 0 to 4096 were asked for");
  expect_contains(error({0, 11}), "sequence length of at most 10");
  expect_contains(error({-1, 3}), "tokens -1 to 3");
  expect_contains(error({3, 2}), "tokens 3 to 2");
}

TEST(Slice, FileThatShrinksWhileOpen) {
  const TemporaryDirectory files;
  const TokenReader corpus = open_corpus(files.write("a.txt", "0123456789").string(), "");
  fs::resize_file(files.path() / "a.txt", 4);
  expect_contains(message_of<std::runtime_error>([&] { corpus.read({2, 10}); }), "ends at byte 4");
}

TEST(Info, CountsAndEntropy) {
  const TemporaryDirectory files;
  const fs::path path = files.write_gzip("a.txt.gz", "aaaabbcd");
  const CorpusInfo info = corpus_info(path.string(), "");
  EXPECT_EQ(info.tokens, 8);
  EXPECT_EQ(info.vocabulary, 256);
  EXPECT_EQ(info.distinct_tokens, 4);
  EXPECT_EQ(info.bytes, static_cast<std::int64_t>(fs::file_size(path)));
  EXPECT_EQ(info.first_tokens, (Tokens{97, 97, 97, 97, 98, 98, 99, 100}));
  EXPECT_DOUBLE_EQ(info.entropy_bits, 1.75);  // 1/2·1 + 1/4·2 + 2·1/8·3
}

}  // namespace
}  // namespace longseq
