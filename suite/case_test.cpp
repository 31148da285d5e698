#include "suite/case.h"

#include <gtest/gtest.h>

#include <set>

#include "suite/test_messages.h"

namespace longseq {
namespace {

const Choices kBuilt{{"ring", "allgather", "halo"}, {"contiguous", "zigzag", "striped"}};

Case with(std::initializer_list<std::pair<std::string_view, std::string_view>> values) {
  Case c;
  for (const auto& [name, text] : values) {
    set_field(c, *find_field(name), text, kBuilt, std::string(name) + " " + std::string(text));
  }
  return c;
}

std::string refusal(std::string_view name, std::string_view text) {
  return message_of([&] { with({{name, text}}); });
}

std::string check_refusal(std::initializer_list<std::pair<std::string_view, std::string_view>> values) {
  return message_of([&] { check_case(with(values)); });
}

TEST(CaseFields, NamesEveryOptionOfTheDesignOnce) {
  const std::set<std::string> designed = {
      "pattern",       "causal",          "window_left", "window_right", "global_tokens", "segment_length",
      "memory_length", "seq_len",         "batch",       "heads",        "kv_heads",      "head_dim",
      "dtype",         "document_length", "pass",        "position",     "strategy",      "layout",
      "overlap",       "ulysses_degree",  "threads",     "dataset",      "seed",          "repetitions",
      "confidence",    "max_time"};
  std::set<std::string> named;
  for (const Field& field : case_fields()) {
    EXPECT_TRUE(named.insert(std::string(field.name)).second) << field.name;
    EXPECT_FALSE(field.help.empty()) << field.name;
  }
  EXPECT_EQ(named, designed);
}

TEST(CaseFields, DefaultsAreAcceptedByTheirOwnParser) {
  Case c;
  for (const Field& field : case_fields()) {
    Case again = c;
    set_field(again, field, field_text(c, field), kBuilt, field.name);
    EXPECT_EQ(again, c) << field.name;
  }
  EXPECT_NO_THROW(check_case(c));
}

TEST(CaseFields, AreFoundByEitherSpelling) {
  EXPECT_EQ(find_field("window_left"), find_field("window-left"));
  EXPECT_EQ(find_field("window"), nullptr);
  EXPECT_EQ(dashed("window_left"), "window-left");
}

TEST(CaseFields, ReadsSizesSwitchesAndNumbers) {
  EXPECT_EQ(with({{"seq_len", "4k"}}).seq_len, 4096);
  EXPECT_EQ(with({{"seq_len", "16M"}}).seq_len, 16777216);
  EXPECT_EQ(with({{"seq_len", "1g"}}).seq_len, 1073741824);
  EXPECT_FALSE(with({{"causal", "no"}}).causal);
  EXPECT_FALSE(with({{"overlap", "off"}}).overlap);
  EXPECT_DOUBLE_EQ(with({{"max_time", "0.5"}}).max_time, 0.5);
  EXPECT_EQ(with({{"dataset", "./some,file.txt"}}).dataset, "./some,file.txt");
}

TEST(CaseFields, RefusesBadNumbersInOneLine) {
  EXPECT_EQ(refusal("seq_len", "0"),
            "seq_len 0: expected a whole number ≥ 1 and ≤ 2147483647; hint: seq-len is tokens in the "
            "sequence, over "
            "all ranks; 4096 may be written 4k");
  // 17179869185G is 2^64 + 2^30: unchecked, it would come out as 1G.
  for (const char* bad :
       {"", "k", "4.5", "4kk", "0x10", "1e3", "9999999999999999999", "17179869185G", "4 k"}) {
    EXPECT_NE(refusal("seq_len", bad).find("expected a whole number"), std::string::npos) << bad;
  }
  EXPECT_NE(refusal("window_left", "-5").find("window_left -5: expected a whole number ≥ 0"),
            std::string::npos);
  EXPECT_NE(refusal("head_dim", "257").find("≤ 256"), std::string::npos);
  for (const char* bad : {"nan", "inf", "1.0", "0", "95%"}) {
    EXPECT_NE(refusal("confidence", bad).find("expected a number ≥ 0.5 and ≤ 0.9999"), std::string::npos)
        << bad;
  }
  EXPECT_NE(refusal("causal", "maybe").find("expected on or off"), std::string::npos);
}

TEST(CaseFields, RefusesUnknownNamesWithTheNearest) {
  EXPECT_EQ(refusal("pattern", "locla"),
            "pattern locla: expected full, local, global, segment or document; hint: the nearest is local");
  EXPECT_EQ(refusal("layout", "zagzig"),
            "layout zagzig: expected contiguous, zigzag or striped; hint: the nearest is zigzag");
  EXPECT_EQ(
      refusal("dataset", "englisch"),
      "dataset englisch: no such dataset; expected synthetic, english, genome, enwik8 or text8 or a path "
      "(./FILE); hint: the nearest is english");
}

TEST(CaseFields, RefusesWhatIsNotBuiltYet) {
  EXPECT_EQ(refusal("strategy", "ulysses"),
            "strategy ulysses: not built yet in this release; available: ring, allgather or halo");
  EXPECT_EQ(
      refusal("ulysses_degree", "2"),
      "ulysses_degree 2: strategy usp is not built yet in this release; available: ring, allgather or halo");
  Case c;
  EXPECT_NO_THROW(set_field(c, *find_field("ulysses_degree"), "2", {{"usp"}, {}}, ""));
}

TEST(CheckCase, NamesBothNumbersOfUnevenHeads) {
  EXPECT_EQ(check_refusal({{"heads", "8"}, {"kv_heads", "3"}}),
            "heads 8 is no multiple of kv-heads 3: expected every key head to serve equally many query "
            "heads; hint: "
            "kv-heads 0 gives each query head its own");
  EXPECT_NO_THROW(check_case(with({{"heads", "8"}, {"kv_heads", "2"}})));
}

TEST(CheckCase, RefusesTablesThatNoIndexReaches) {
  for (const char* position : {"alibi", "elan"}) {
    EXPECT_EQ(check_refusal({{"position", position}, {"heads", "8"}, {"seq_len", "256M"}}),
              std::string("seq-len is 268435456 with ") + position +
                  " positions and 8 heads: expected at most 134217728");
    EXPECT_NO_THROW(check_case(with({{"position", position}, {"heads", "8"}, {"seq_len", "128M"}})));
  }
}

TEST(CheckCase, RefusesWhatDoesNotFitTogether) {
  EXPECT_NE(check_refusal({{"position", "rotary"}, {"head_dim", "5"}}).find("expected an even number"),
            std::string::npos);
  const std::string globals =
      check_refusal({{"pattern", "global"}, {"seq_len", "7"}, {"global_tokens", "9"}});
  EXPECT_NE(globals.find("9"), std::string::npos);
  EXPECT_NE(globals.find("7"), std::string::npos);
  EXPECT_NE(check_refusal({{"seq_len", "1G"}, {"heads", "32k"}, {"head_dim", "256"}, {"batch", "1k"}})
                .find("fewer than 2^56"),
            std::string::npos);
  EXPECT_NE(check_refusal({{"seq_len", "1G"}, {"heads", "32"}}).find("fewer than 2^63 pairs"),
            std::string::npos);
  Case negative;  // as a program could make it, past the parser
  negative.pattern = "local";
  negative.window_left = -3;
  EXPECT_NE(message_of([&] { check_case(negative); }).find("-3"), std::string::npos);
}

TEST(Resolve, MakesEqualMeasurementsEqualCases) {
  Case a = with({{"pattern", "full"}, {"window_left", "17"}, {"heads", "4"}});
  Case b = with({{"pattern", "full"}, {"document_length", "9"}, {"heads", "4"}, {"kv_heads", "4"}});
  resolve(a);
  resolve(b);
  EXPECT_EQ(a, b);
  Case c = with({{"pattern", "local"}, {"window_left", "17"}, {"window_right", "5"}, {"causal", "off"}});
  resolve(c);
  EXPECT_EQ(c.window_left, 17);
  EXPECT_EQ(c.window_right, 5);
  EXPECT_NE(a, c);
}

TEST(MakePattern, CarriesEveryNumber) {
  Case c = with({{"pattern", "global"},
                 {"causal", "off"},
                 {"seq_len", "100"},
                 {"window_left", "3"},
                 {"window_right", "2"},
                 {"global_tokens", "4"}});
  resolve(c);
  const Pattern p = make_pattern(c);
  // By hand: the first 4 see all 100; query i sees keys i-3..i+2 and 0..3, each once.
  std::int64_t pairs = 4 * 100;
  for (int i = 4; i < 100; ++i) {
    for (int j = 0; j < 100; ++j) pairs += j < 4 || (i - 3 <= j && j <= i + 2);
  }
  EXPECT_EQ(p.area(), pairs);
  c.pattern = "document";
  EXPECT_EQ(make_pattern(c, {0, 30}).area(), 30 * 30 + 70 * 70);
}

TEST(Label, IsShortAndHuman) {
  Case c = with({{"pattern", "local"}, {"causal", "on"}, {"window_left", "512"}, {"seq_len", "16k"}});
  resolve(c);
  EXPECT_EQ(label(c), "local w512+0 causal ring/contiguous S=16384 H=8 D=64 f32");
  c = with({{"pattern", "segment"},
            {"causal", "off"},
            {"kv_heads", "2"},
            {"overlap", "off"},
            {"batch", "2"},
            {"position", "rotary"},
            {"dataset", "english"}});
  resolve(c);
  EXPECT_EQ(label(c),
            "segment T512 M512 causal ring/contiguous S=4096 B=2 H=8/2 D=64 f32 rotary english no-overlap");
}

TEST(StoredFields, KeepTypesAndOrder) {
  const Case c;
  const auto stored = fields(c);
  ASSERT_EQ(stored.size(), case_fields().size());
  EXPECT_EQ(stored.front(), (std::pair<std::string, Scalar>("pattern", std::string("full"))));
  EXPECT_EQ(stored[1], (std::pair<std::string, Scalar>("causal", false)));
  EXPECT_EQ(stored.back(), (std::pair<std::string, Scalar>("max_time", 20.0)));
  const std::string text = canonical_text(c);
  EXPECT_EQ(text.substr(0, 44), "pattern=full causal=off window_left=256 wind");
  EXPECT_EQ(text.find('\n'), std::string::npos);
}

}  // namespace
}  // namespace longseq
