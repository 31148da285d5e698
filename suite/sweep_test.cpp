#include "suite/sweep.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <numeric>

#include "suite/test_messages.h"

namespace longseq {
namespace {

const Choices kBuilt{{"ring", "allgather", "halo"}, {"contiguous", "zigzag", "striped"}};
const Command kBench{"bench", "Times cases.", {config_option()}};

Sweep from_file(const std::string& text, std::vector<std::string> arguments = {}) {
  return parse_sweep(text, "my.cfg", parse_command_line(kBench, arguments).settings, kBuilt);
}

Sweep from_line(std::vector<std::string> arguments) {
  return make_sweep(parse_command_line(kBench, arguments), kBuilt);
}

std::string refusal(const std::string& text) {
  return message_of([&] { from_file(text); });
}

TEST(Sweep, OfAnEmptyCommandLineIsTheDefaultCase) {
  Case c;
  resolve(c);
  EXPECT_EQ(from_line({}).cases, std::vector<Case>{c});
}

TEST(Sweep, RunsTheProductOfListsTheLastFieldFastest) {
  const Sweep sweep = from_line({"--layout", "striped,zigzag", "--seq-len", "1k,2k", "--heads", "2"});
  std::vector<std::string> order;
  for (const Case& c : sweep.cases) order.push_back(std::to_string(c.seq_len) + c.layout);
  EXPECT_EQ(order, (std::vector<std::string>{"1024striped", "1024zigzag", "2048striped", "2048zigzag"}));
  EXPECT_EQ(sweep.groups, std::vector<std::string>(4, ""));
}

TEST(Sweep, SectionsInheritTheKeysBeforeThem) {
  const Sweep sweep = from_file(
      "# all of them\nheads = 2\nseq-len = 1k  # either spelling\n\n[a]\npattern = local\n"
      "causal = on, off\r\n[b c]\nheads = 4, 8\n");
  ASSERT_EQ(sweep.cases.size(), 4u);
  EXPECT_EQ(sweep.groups, (std::vector<std::string>{"a", "a", "b c", "b c"}));
  EXPECT_EQ(label(sweep.cases[0]), "local w256+0 causal ring/contiguous S=1024 H=2 D=64 f32");
  EXPECT_EQ(label(sweep.cases[1]), "local w256+256 ring/contiguous S=1024 H=2 D=64 f32");
  EXPECT_EQ(label(sweep.cases[2]), "full ring/contiguous S=1024 H=4 D=64 f32");
  EXPECT_EQ(label(sweep.cases[3]), "full ring/contiguous S=1024 H=8 D=64 f32");
}

TEST(Sweep, TheCommandLineOverridesTheFileInEverySection) {
  const Sweep sweep = from_file("seq_len = 1k, 2k\n[a]\nheads = 2\n[b]\nseq_len = 4k\nheads = 4\n",
                                {"--seq-len", "512", "--no-causal"});
  ASSERT_EQ(sweep.cases.size(), 2u);
  for (const Case& c : sweep.cases) {
    EXPECT_EQ(c.seq_len, 512);
    EXPECT_FALSE(c.causal);
  }
}

TEST(Sweep, MeasuresEqualCasesOnce) {
  const Sweep sweep = from_line({"--pattern", "full,local", "--window-left", "8,16"});
  EXPECT_EQ(sweep.cases.size(), 3u);  // the window means nothing to full
  EXPECT_EQ(std::count(sweep.canonical.begin(), sweep.canonical.end(), '\n'), 3);
}

TEST(Sweep, CanonicalTextIsThatOfTheCasesNotOfTheirSpelling) {
  EXPECT_EQ(from_file("heads=4\nseq_len = 4k").canonical,
            from_line({"--seq-len", "4096", "--heads", "4"}).canonical);
  EXPECT_NE(from_line({"--seed", "1"}).canonical, from_line({"--seed", "2"}).canonical);
}

TEST(Sweep, RefusesWithFileAndLine) {
  EXPECT_EQ(refusal("heads = 4\n\nseqlen = 5\n"),
            "my.cfg:3: seqlen: no such key; hint: did you mean seq_len?");
  EXPECT_EQ(
      refusal("[a]\nseq_len = 0\n"),
      "my.cfg:2: seq_len = 0: expected a whole number ≥ 1 and ≤ 2147483647; hint: seq-len is tokens in the "
      "sequence, over all ranks; 4096 may be written 4k");
  EXPECT_EQ(refusal("heads = 4\nheads = 8\n"),
            "my.cfg:2: heads: given twice; expected once per section; hint: list its values with commas");
  EXPECT_EQ(refusal("seq_len = 1\nseq-len = 2\n"),
            "my.cfg:2: seq-len: given twice; expected once per section; hint: list its values with commas");
  EXPECT_EQ(refusal("heads = 4, 8, 4\n"),
            "my.cfg:1: heads = 4: this value is given twice; expected each once");
  EXPECT_EQ(refusal("seq_len = 4k, 4096\n"),
            "my.cfg:1: seq_len = 4096: this value is given twice; expected each once");
  EXPECT_EQ(refusal("[a]\n[b]\n[a]\n"),
            "my.cfg:3: [a]: a section of that name came before; expected each once");
  EXPECT_EQ(refusal("\nheads 4\n"),
            "my.cfg:2: heads 4: expected key = value, value... or [section]; hint: comments begin with #");
  EXPECT_EQ(refusal("[a\n"),
            "my.cfg:1: [a: expected key = value, value... or [section]; hint: comments begin with #");
  EXPECT_NE(refusal("heads =\n").find("my.cfg:1: heads = : a value is missing"), std::string::npos);
  EXPECT_NE(refusal("heads = 4,,8\n").find("my.cfg:1: heads = 4,,8: a value is missing"), std::string::npos);
  EXPECT_EQ(
      refusal("\n[uneven]\nheads = 8\nkv_heads = 3\n").find("my.cfg:2 [uneven]: heads 8 is no multiple"), 0u);
}

TEST(Sweep, RefusesBadOptionsByTheirName) {
  EXPECT_EQ(message_of([] {
              from_line({"--seq-len", "0"});
            }).find("--seq-len 0: expected a whole number ≥ 1"),
            0u);
  EXPECT_EQ(message_of([] { from_line({"--window-left", "-5"}); }).find("--window-left -5: expected"), 0u);
  EXPECT_EQ(message_of([] {
              from_line({"--pattern", "fulll"});
            }),
            "--pattern fulll: expected full, local, global, segment or document; hint: the nearest is full");
  EXPECT_EQ(message_of([] {
              from_line({"--heads", "8", "--kv-heads", "3"});
            }).find("heads 8 is no multiple"),
            0u);
}

TEST(Sweep, RefusesProductsWithoutEnd) {
  std::vector<int> many(400);
  std::iota(many.begin(), many.end(), 1);
  EXPECT_NE(refusal(fmt::format("seed = {0}\nthreads = {0}\n", fmt::join(many, ",")))
                .find("160000 cases and more; expected at most 100000"),
            std::string::npos);
}

TEST(Sweep, ReadsItsFile) {
  const std::string path = testing::TempDir() + "sweep_test.cfg";
  const std::string text = "heads = 2 # two\n";
  std::ofstream(path) << text;
  const Sweep sweep = from_line({"--config", path, "--head-dim", "8"});
  ASSERT_EQ(sweep.cases.size(), 1u);
  EXPECT_EQ(sweep.cases[0].heads, 2);
  EXPECT_EQ(sweep.cases[0].head_dim, 8);
  EXPECT_EQ(sweep.source, text);
  EXPECT_EQ(message_of([] {
              from_line({"--config", "/no/such.cfg"});
            }),
            "--config /no/such.cfg: cannot be read, or is empty; expected a sweep file; hint: "
            "suite/experiments has "
            "examples");
}

TEST(SingleCase, IsNeitherResolvedNorCheckedAndTakesNoLists) {
  const CommandLine line =
      parse_command_line(kBench, std::vector<std::string>{"--kv-heads", "0", "--pattern", "local"});
  const Case c = single_case(line, kBuilt);
  EXPECT_EQ(c.pattern, "local");
  EXPECT_EQ(c.kv_heads, 0);
  EXPECT_EQ(message_of([] {
              single_case(parse_command_line(kBench, std::vector<std::string>{"--seq-len", "1,2"}), kBuilt);
            }),
            "--seq-len: 2 values; expected one; hint: only sweeps take lists");
}

class Experiments : public testing::TestWithParam<const char*> {};

TEST_P(Experiments, AreWellFormed) {
  const std::string path = std::string(LONGSEQ_EXPERIMENTS) + "/" + GetParam();
  EXPECT_NO_THROW(EXPECT_FALSE(from_line({"--config", path}).cases.empty()));
}

INSTANTIATE_TEST_SUITE_P(Suite, Experiments, testing::Values("quick.cfg"));

TEST(Quick, CoversEveryPatternStrategyAndTheEnglishTextWithinItsTime) {
  const Sweep sweep = from_line({"--config", std::string(LONGSEQ_EXPERIMENTS) + "/quick.cfg"});
  const auto some = [&](auto&& property) {
    return std::any_of(sweep.cases.begin(), sweep.cases.end(), property);
  };
  for (const PatternRow& row : kPatterns) {
    EXPECT_TRUE(some([&](const Case& c) { return c.pattern == row.name; })) << row.name;
  }
  for (const std::string& strategy : kBuilt.strategies) {
    EXPECT_TRUE(some([&](const Case& c) { return c.strategy == strategy; })) << strategy;
  }
  for (const char* dataset : {"english", "synthetic"}) {
    EXPECT_TRUE(some([&](const Case& c) { return c.dataset == dataset; })) << dataset;
  }
  EXPECT_TRUE(some([](const Case& c) { return !c.overlap; }));
  double seconds = 0;
  for (const Case& c : sweep.cases) {
    seconds += c.max_time;
    EXPECT_FALSE(c.strategy == "halo" && (c.pattern == "full" || c.layout != "contiguous")) << label(c);
  }
  EXPECT_LT(seconds, 120);
}

}  // namespace
}  // namespace longseq
