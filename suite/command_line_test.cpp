#include "suite/command_line.h"

#include <gtest/gtest.h>

#include "suite/test_messages.h"

namespace longseq {
namespace {

const Command kBench{
    "bench",
    "Times cases.",
    {config_option(), {"output", "FILE", "results file", "results/out.h5"}, {"quiet", "", "no table"}},
    {}};
const Command kData{
    "data", "Datasets.", {{"data-dir", "DIR", "where corpora lie", "data"}}, {"ACTION", "NAME"}, false};

CommandLine parse(const Command& command, std::vector<std::string> arguments) {
  return parse_command_line(command, arguments);
}

std::string refusal(const Command& command, std::vector<std::string> arguments) {
  return message_of([&] { parse(command, std::move(arguments)); });
}

TEST(CommandLine, TakesOwnOptionsAndThoseOfCases) {
  const CommandLine line =
      parse(kBench, {"--seq-len", "4096, 8k", "--heads=4", "--output", "my run.h5", "--quiet"});
  EXPECT_EQ(line.at("output"), "my run.h5");
  EXPECT_EQ(line.at("quiet"), "on");
  EXPECT_FALSE(line.has("config"));
  EXPECT_EQ(line.settings.at("seq_len").values, (std::vector<std::string>{"4096", "8k"}));
  EXPECT_EQ(line.settings.at("heads").values, (std::vector<std::string>{"4"}));
  EXPECT_EQ(line.settings.size(), 2u);
  EXPECT_EQ(line.text, "--seq-len '4096, 8k' --heads=4 --output 'my run.h5' --quiet");
  EXPECT_FALSE(line.help);
}

TEST(CommandLine, FillsInStandards) {
  EXPECT_EQ(parse(kBench, {}).at("output"), "results/out.h5");
  EXPECT_FALSE(parse(kBench, {}).has("quiet"));
  EXPECT_EQ(message_of([] { parse(kBench, {}).at("config"); }),
            "--config: missing; expected it to be given; hint: see --help");
}

TEST(CommandLine, TakesFlagsBothWays) {
  EXPECT_EQ(parse(kBench, {"--causal"}).settings.at("causal").values[0], "on");
  EXPECT_EQ(parse(kBench, {"--no-causal"}).settings.at("causal").values[0], "off");
  EXPECT_EQ(refusal(kBench, {"--causal", "--no-causal"}),
            "--no-causal: given twice; expected once; hint: several values are a list, with commas");
}

TEST(CommandLine, TakesNegativeNumbersAsValues) {
  EXPECT_EQ(parse(kBench, {"--window-left", "-5"}).settings.at("window_left").values[0], "-5");
  EXPECT_EQ(parse(kBench, {"--window-left=-5"}).settings.at("window_left").values[0], "-5");
}

TEST(CommandLine, TakesOperandsAsFarAsThereAreAny) {
  const CommandLine line = parse(kData, {"info", "--data-dir", "d", "english"});
  EXPECT_EQ(line.operands, (std::vector<std::string>{"info", "english"}));
  EXPECT_EQ(refusal(kBench, {"whatever"}),
            "whatever: not expected here; bench takes 0 words without dashes; hint: options begin with --");
  EXPECT_NE(refusal(kData, {"a", "b", "c"}).find("c: not expected here"), std::string::npos);
}

TEST(CommandLine, NamesTheNearestOption) {
  EXPECT_EQ(refusal(kBench, {"--seqlen", "5"}), "--seqlen: no such option; hint: did you mean --seq-len?");
  EXPECT_EQ(refusal(kBench, {"--seqlen=5"}), "--seqlen: no such option; hint: did you mean --seq-len?");
  EXPECT_EQ(refusal(kBench, {"--outptu", "x"}), "--outptu: no such option; hint: did you mean --output?");
  EXPECT_EQ(refusal(kBench, {"--win"}), "--win: no such option; hint: did you mean --window-left?");
  EXPECT_EQ(refusal(kData, {"--seq-len", "5"}).find("--seq-len: no such option"), 0u);
}

TEST(CommandLine, DoesNotGuessAbbreviations) {
  EXPECT_EQ(refusal(kBench, {"--batc", "5"}), "--batc: no such option; hint: did you mean --batch?");
}

TEST(CommandLine, RefusesMissingAndSuperfluousValues) {
  EXPECT_EQ(refusal(kBench, {"--seq-len"}), "--seq-len: expected a value after it; hint: see --help");
  EXPECT_EQ(refusal(kBench, {"--seq-len", "--heads", "4"}),
            "--seq-len: expected a value after it; hint: see --help");
  EXPECT_EQ(refusal(kBench, {"--quiet=yes"}),
            "--quiet: expected no value, this is a switch; hint: leave out what follows the =");
  EXPECT_EQ(
      refusal(kBench, {"--seq-len", "1,,2"}),
      "--seq-len 1,,2: a value is missing; expected one or several, separated by commas; hint: 4096,8192");
}

TEST(CommandLine, RefusesWhatIsGivenTwice) {
  EXPECT_EQ(refusal(kBench, {"--heads", "4", "--heads", "8"}),
            "--heads: given twice; expected once; hint: several values are a list, with commas");
  EXPECT_EQ(refusal(kBench, {"--output", "a", "--output", "b"}), "--output: given twice; expected once");
}

TEST(CommandLine, UnderstandsHelp) {
  EXPECT_TRUE(parse(kBench, {"--help"}).help);
  EXPECT_TRUE(parse(kBench, {"-h"}).help);
}

TEST(Help, NamesEveryOptionWithDefaultsAndChoices) {
  const std::string help = help_text(kBench, {{"ring", "halo"}, {"contiguous"}});
  for (const Field& field : case_fields()) {
    EXPECT_NE(help.find("--" + dashed(field.name)), std::string::npos) << field.name;
  }
  for (const char* part :
       {"usage: longseq bench [OPTION]...", "Times cases.", "--output FILE (=results/out.h5)", "--no-causal",
        "--seq-len N (=4096)", "ring or halo", "full, local, global", "--quiet", "Timing:", "1024^2"}) {
    EXPECT_NE(help.find(part), std::string::npos) << part << "\n" << help;
  }
  EXPECT_EQ(help_text(kData, {}).find("--seq-len"), std::string::npos);
  EXPECT_NE(help_text(kData, {}).find("usage: longseq data [ACTION] [NAME] [OPTION]..."), std::string::npos);
}

}  // namespace
}  // namespace longseq
