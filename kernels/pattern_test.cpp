// Patterns against brute force: a predicate written straight from the table in maths.md, section 2.
#include "kernels/pattern.h"

#include <gtest/gtest.h>

#include <random>

namespace longseq {
namespace {

bool sees(const Pattern& p, std::int64_t i, std::int64_t j) {
  const bool past = j <= i;
  const bool in_window = i - p.window_left <= j && j <= i + p.window_right;
  switch (p.kind) {
    case PatternKind::full:
      return past || !p.causal;
    case PatternKind::local:
      return in_window && (past || !p.causal);
    case PatternKind::global:
      return (in_window || j < p.global_tokens || i < p.global_tokens) && (past || !p.causal);
    case PatternKind::segment:
      return past && j >= i - i % p.segment_length - p.memory_length;
    case PatternKind::document: {
      std::int64_t document_i = 0, document_j = 0;
      for (const std::int64_t start : p.document_starts) {
        document_i += start <= i;
        document_j += start <= j;
      }
      return document_i == document_j && (past || !p.causal);
    }
  }
  return false;
}

class RandomPattern {
 public:
  explicit RandomPattern(unsigned seed) : engine_(seed) {}

  std::int64_t upto(std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(engine_);
  }
  Pattern pattern() {
    Pattern p;
    p.kind = kPatterns[static_cast<std::size_t>(upto(0, 4))].kind;
    p.causal = upto(0, 1) == 1;
    p.seq_len = upto(1, 40);
    p.window_left = upto(0, 12);
    p.window_right = upto(0, 12);
    p.global_tokens = upto(0, std::min<std::int64_t>(8, p.seq_len));
    p.segment_length = upto(1, 12);
    p.memory_length = upto(0, 15);
    p.document_starts = {0};
    for (std::int64_t start = upto(1, 9); start < p.seq_len; start += upto(1, 9))
      p.document_starts.push_back(start);
    p.check();
    return p;
  }
  Run run(std::int64_t seq_len, std::int64_t stride) {
    const std::int64_t start = upto(0, seq_len - 1);
    return {start, stride, upto(1, (seq_len - 1 - start) / stride + 1)};
  }

 private:
  std::mt19937 engine_;
};

std::int64_t counted_area(const Pattern& p, Run queries, Run keys) {
  std::int64_t area = 0;
  for (std::int64_t a = 0; a < queries.count; ++a) {
    for (std::int64_t b = 0; b < keys.count; ++b) area += sees(p, queries.at(a), keys.at(b));
  }
  return area;
}

TEST(Pattern, DistancesAreThoseOfThePairsThatAreSeen) {
  RandomPattern random(6);
  for (int trial = 0; trial < 500; ++trial) {
    const Pattern p = random.pattern();
    Interval met;
    for (std::int64_t i = 0; i < p.seq_len; ++i) {
      for (std::int64_t j = 0; j < p.seq_len; ++j) {
        if (sees(p, i, j)) met = hull_of(met, {i - j, i - j + 1});
      }
    }
    const Interval said = p.distances();
    EXPECT_EQ(hull_of(met, said), said) << trial;
    if (p.kind == PatternKind::full || p.kind == PatternKind::local || p.kind == PatternKind::document) {
      EXPECT_EQ(met, said) << trial;  // the others may say a few more
    }
  }
}

TEST(Pattern, VisibleKeysAreExactlyWhatTheTableSays) {
  RandomPattern random(1);
  for (int trial = 0; trial < 500; ++trial) {
    const Pattern p = random.pattern();
    for (std::int64_t i = 0; i < p.seq_len; ++i) {
      const VisibleKeys keys = p.visible_keys(i);
      EXPECT_TRUE(intersect(keys.first, keys.second).empty());
      for (std::int64_t j = 0; j < p.seq_len; ++j) {
        EXPECT_EQ(keys.first.contains(j) || keys.second.contains(j), sees(p, i, j))
            << trial << ' ' << i << ' ' << j;
      }
    }
  }
}

TEST(Pattern, AreaAndCoverOfAnyTileAreExact) {
  RandomPattern random(2);
  for (int trial = 0; trial < 3000; ++trial) {
    const Pattern p = random.pattern();
    EXPECT_EQ(p.area(), counted_area(p, {0, 1, p.seq_len}, {0, 1, p.seq_len})) << trial;
    const std::int64_t stride = random.upto(1, 5);
    const longseq::Run queries = random.run(p.seq_len, trial % 3 == 0 ? random.upto(1, 5) : stride);
    const longseq::Run keys = random.run(p.seq_len, stride);
    const std::int64_t area = counted_area(p, queries, keys);
    EXPECT_EQ(p.area(queries, keys), area) << trial;
    const Cover cover = p.cover(queries, keys);
    EXPECT_EQ(cover == Cover::none, area == 0);
    EXPECT_EQ(cover == Cover::full, area == queries.count * keys.count);
  }
}

TEST(Pattern, KeysSeenByAContiguousRunAreExactlyTheUnion) {
  RandomPattern random(3);
  for (int trial = 0; trial < 2000; ++trial) {
    const Pattern p = random.pattern();
    const std::int64_t stride = trial % 2 == 0 ? 1 : random.upto(2, 5);
    const longseq::Run queries = random.run(p.seq_len, stride);
    const VisibleKeys keys = p.keys_seen_by(queries);
    EXPECT_TRUE(intersect(keys.first, keys.second).empty());
    for (std::int64_t j = 0; j < p.seq_len; ++j) {
      const bool seen = counted_area(p, queries, {j, 1, 1}) > 0;
      const bool said = keys.first.contains(j) || keys.second.contains(j);
      if (stride == 1) {
        EXPECT_EQ(said, seen) << trial << ' ' << j;
      } else {
        EXPECT_TRUE(said || !seen) << trial << ' ' << j;
      }
    }
  }
}

TEST(Pattern, RowsThatSeeAreFromTheFirstToTheLast) {
  RandomPattern random(9);
  for (int trial = 0; trial < 3000; ++trial) {
    const Pattern p = random.pattern();
    const longseq::Run queries = random.run(p.seq_len, random.upto(1, 3)), keys = random.run(p.seq_len, 1);
    Interval expected;
    for (std::int64_t row = 0; row < queries.count; ++row) {
      bool any = false;
      for (std::int64_t k = 0; k < keys.count; ++k) any = any || sees(p, queries.at(row), keys.at(k));
      if (any) expected = hull_of(expected, {row, row + 1});
    }
    const Interval got = p.rows_that_see(queries, keys);
    // Between the first global rows and those that rise there may be others.
    const bool leading = p.kind == PatternKind::global && queries.start < p.global_tokens;
    if (expected.empty()) {
      EXPECT_TRUE(got.empty() || leading) << trial;
    } else {
      EXPECT_EQ(leading ? intersect(got, expected) : got, expected) << trial;
    }
  }
}

TEST(Pattern, ClosedFormsOfTheWellKnownAreas) {
  const std::int64_t s = 1'000'003;
  Pattern p{.kind = PatternKind::full, .causal = true, .seq_len = s};
  EXPECT_EQ(p.area(), s * (s + 1) / 2);
  p.causal = false;
  EXPECT_EQ(p.area(), s * s);
  p = {.kind = PatternKind::local, .causal = true, .seq_len = s, .window_left = 512};
  EXPECT_EQ(p.area(), s * 513 - 512 * 513 / 2);
}

TEST(Pattern, RefusesWhatMakesNoPatternAndNamesTheValue) {
  const auto message = [](const Pattern& p) -> std::string {
    try {
      p.check();
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_EQ(message({.seq_len = 0}), "seq-len is 0; expected at least 1 token");
  EXPECT_EQ(message({.kind = PatternKind::local, .seq_len = 5, .window_left = -3}),
            "window-left is -3; expected 0 or more keys before the query");
  EXPECT_EQ(message({.kind = PatternKind::segment, .seq_len = 5}),
            "segment-length is 0; expected at least 1 token");
  EXPECT_EQ(message({.kind = PatternKind::document, .seq_len = 5, .document_starts = {0, 7}}),
            "the last document's start is 7; expected less than seq-len = 5");
}

}  // namespace
}  // namespace longseq
