// bytes, text8 and FASTA, plain and gzipped.
#include "datasets/corpus.h"
#include "datasets/test_files.h"

namespace longseq {
namespace {

namespace fs = std::filesystem;
using Tokens = std::vector<std::int32_t>;

class TextFormats : public testing::Test {
 protected:
  TokenReader open(const std::string& file) const { return open_corpus((files.path() / file).string(), ""); }
  std::string open_error(const std::string& file) const {
    return message_of<std::runtime_error>([&] { open(file); });
  }
  TemporaryDirectory files;
};

TEST_F(TextFormats, BytesAreTheFilesBytes) {
  files.write("a.txt", std::string("A\0\xFFz\n", 5));
  const TokenReader corpus = open("a.txt");
  EXPECT_EQ(corpus.size(), 5);
  EXPECT_EQ(corpus.vocabulary(), 256);
  EXPECT_EQ(corpus.read({0, 5}), (Tokens{65, 0, 255, 122, 10}));
  EXPECT_EQ(corpus.read({2, 4}), (Tokens{255, 122}));
  EXPECT_EQ(corpus.read({5, 5}), Tokens{});
}

TEST_F(TextFormats, SliceOfAHugeFileCostsOnlyItself) {
  const fs::path path = files.write("huge.bin", "");
  fs::resize_file(path, std::uintmax_t{1} << 40);  // sparse: 1 TiB of zeros that nobody could read to the end
  const std::int64_t end = std::int64_t{1} << 40;
  EXPECT_EQ(open("huge.bin").read({end - 3, end}), (Tokens{0, 0, 0}));
}

TEST_F(TextFormats, GzippedBytesBackAndForth) {
  std::string text;
  for (int i = 0; i < 300000; ++i) text += static_cast<char>('a' + i % 23);
  files.write_gzip("a.txt.gz", text);
  const TokenReader corpus = open("a.txt.gz");
  EXPECT_EQ(corpus.size(), 300000);
  EXPECT_EQ(corpus.read({299999, 300000}), (Tokens{'a' + 299999 % 23}));
  EXPECT_EQ(corpus.read({23, 26}), (Tokens{'a', 'b', 'c'}));
}

TEST_F(TextFormats, TruncatedDamagedAndFalseGzip) {
  std::string text(100000, ' ');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>((i * i * 2654435761u) >> 13);
  const fs::path path = files.write_gzip("cut.txt.gz", text);
  const auto whole = fs::file_size(path);
  for (const std::uintmax_t size : {whole - 1, whole - 9, whole / 2, std::uintmax_t{5}}) {
    files.write_gzip("cut.txt.gz", text);
    fs::resize_file(path, size);
    expect_contains(open_error("cut.txt.gz"), "is a truncated gzip file");
  }
  files.write_gzip("cut.txt.gz", text);
  std::fstream(path, std::ios::in | std::ios::out | std::ios::binary).seekp(-6, std::ios::end)
      << '?';  // the CRC
  expect_contains(open_error("cut.txt.gz"), "is a damaged gzip file");
  files.write("false.txt.gz", "plain text");
  expect_contains(open_error("false.txt.gz"), "is not a gzip file");
}

TEST_F(TextFormats, EmptyAndMissingFiles) {
  for (const std::string name : {"e.txt", "e.text8", "e.fa", "e.npy", "e.txt.gz", "e.fa.gz"}) {
    files.write(name, "");
    expect_contains(open_error(name), "is empty");
  }
  files.write_gzip("nothing.txt.gz", "");
  expect_contains(open_error("nothing.txt.gz"), "decompresses to nothing");
  for (const std::string format : {"bytes", "text8", "fasta", "npy", "hdf5"}) {
    expect_contains(open_error("absent:" + format), "cannot be opened");
  }
  fs::create_directory(files.path() / "folder.txt");
  expect_contains(open_error("folder.txt"), "is not a regular file");
}

TEST_F(TextFormats, Text8Alphabet) {
  files.write("a.text8", " abc xyz");
  const TokenReader corpus = open("a.text8");
  EXPECT_EQ(corpus.vocabulary(), 27);
  EXPECT_EQ(corpus.read({0, 8}), (Tokens{0, 1, 2, 3, 0, 24, 25, 26}));
  files.write("b.text8", "abc Def");
  EXPECT_EQ(open("b.text8").read({0, 4}), (Tokens{1, 2, 3, 0}));
  const std::string message = message_of<std::runtime_error>([&] { open("b.text8").read({2, 7}); });
  expect_contains(message, "byte 0x44 at offset 4 is outside the text8 alphabet");
}

TEST_F(TextFormats, FastaCodesRecordsAndLineEndings) {
  // A header that names bases, a record with CRLF and lines of different lengths, blank lines, an old
  // comment, no last newline.
  files.write("a.fna", ">ACGT seq 1\nACGT\n\nN\n>two > 1\r\nacg\r\ntuRy-\r\n;comment\nXG");
  const Tokens all{0, 1, 2, 3, 4, 0, 1, 2, 3, 3, 4, 4, 4, 4, 2};
  const TokenReader corpus = open("a.fna");
  EXPECT_EQ(corpus.vocabulary(), 5);
  ASSERT_EQ(corpus.size(), 15);
  for (std::int64_t begin = 0; begin <= 15; ++begin) {
    for (std::int64_t end = begin; end <= 15; ++end) {
      EXPECT_EQ(corpus.read({begin, end}), Tokens(all.begin() + begin, all.begin() + end));
    }
  }
}

TEST_F(TextFormats, FastaWithBareCarriageReturns) {
  files.write("a.fa", ">ACGT\rAC\rG\r>x\rT");
  EXPECT_EQ(open("a.fa").read({0, 4}), (Tokens{0, 1, 2, 3}));
}

TEST_F(TextFormats, FastaSlicesAcrossIndexBlocks) {
  // Headers and lines of all lengths, so that index blocks (64 KiB) begin in headers, lines and line ends.
  std::string text;
  Tokens all;
  std::uint32_t state = 1;
  const auto random = [&state](std::uint32_t below) {
    return (state = state * 1664525 + 1013904223) / 65536 % below;
  };
  while (text.size() < 700000) {
    if (random(10) == 0) text += '>' + std::string(random(3000), 'A') + '\n';
    for (std::uint32_t i = random(5000); i > 0; --i) {
      all.push_back(static_cast<std::int32_t>(random(5)));
      text += "ACGTN"[all.back()];
    }
    text += random(2) == 0 ? "\n" : "\r\n";
  }
  files.write("a.fa", text);
  files.write_gzip("a.fa.gz", text);
  const auto size = static_cast<std::int64_t>(all.size());
  for (const std::string name : {"a.fa", "a.fa.gz"}) {
    const TokenReader corpus = open(name);
    ASSERT_EQ(corpus.size(), size);
    EXPECT_EQ(corpus.read({0, size}), all);
    for (std::int64_t begin = 0; begin < size; begin += 9973) {
      const std::int64_t end = std::min(size, begin + 70000);
      ASSERT_EQ(corpus.read({begin, end}), Tokens(all.begin() + begin, all.begin() + end)) << begin;
    }
  }
}

TEST_F(TextFormats, FastaWithoutSequenceOrOfSomethingElse) {
  files.write("a.fa", ">only a header\n\n");
  expect_contains(open_error("a.fa"), "holds no sequence");
  files.write("b.fa", ">protein\nMKLV");
  expect_contains(open_error("b.fa"), "byte 0x4C at offset 11 is no nucleotide code");
}

}  // namespace
}  // namespace longseq
