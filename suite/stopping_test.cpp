#include "suite/stopping.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

namespace longseq {
namespace {

// Ten repetitions: median 1.0, and its 95 % interval [second, ninth] = [0.985, 1.015], ±1.5 %.
const std::vector<double> kSteady = {0.9, 0.985, 0.99, 0.995, 1.0, 1.0, 1.005, 1.01, 1.015, 5.0};
// The same with the second and ninth at ±3 %.
const std::vector<double> kNoisy = {0.9, 0.97, 0.99, 0.995, 1.0, 1.0, 1.005, 1.01, 1.03, 5.0};

TEST(MinimumRepetitions, CountsThem) {
  EXPECT_EQ(vote(MinimumRepetitions{11}, {kSteady, 1}), Vote::go_on);
  EXPECT_EQ(vote(MinimumRepetitions{10}, {kSteady, 1}), Vote::content);
}

TEST(IntervalWithin, LooksAtTheIntervalOnly) {
  EXPECT_EQ(vote(IntervalWithin{0.02, 0.95}, {kSteady, 1}), Vote::content);
  EXPECT_EQ(vote(IntervalWithin{0.014, 0.95}, {kSteady, 1}), Vote::go_on);
  EXPECT_EQ(vote(IntervalWithin{0.02, 0.95}, {kNoisy, 1}), Vote::go_on);
  EXPECT_EQ(vote(IntervalWithin{0.02, 0.99}, {kSteady, 1}),
            Vote::go_on);  // the interval is then [first, last]
  EXPECT_EQ(vote(IntervalWithin{10, 0.95}, {std::span(kSteady).first(5), 1}), Vote::go_on);
  EXPECT_EQ(vote(IntervalWithin{10, 0.95}, {std::span(kSteady).first(6), 1}), Vote::content);
}

TEST(TimeCap, InsistsWhenTimeIsUp) {
  EXPECT_EQ(vote(TimeCap{20}, {kNoisy, 19.9}), Vote::content);
  EXPECT_EQ(vote(TimeCap{20}, {kNoisy, 20}), Vote::stop_now);
}

TEST(Decide, ConvergesWhenEveryRuleIsContent) {
  const auto rules = stopping_rules(Case{});
  const Decision steady = decide(rules, {kSteady, 3});
  EXPECT_TRUE(steady.stop);
  EXPECT_TRUE(steady.converged);
  EXPECT_EQ(steady.reason, describe(rules));
}

TEST(Decide, GoesOnAndSaysForWhat) {
  const auto rules = stopping_rules(Case{});
  const Decision noisy = decide(rules, {kNoisy, 3});
  EXPECT_FALSE(noisy.stop);
  EXPECT_FALSE(noisy.converged);
  EXPECT_EQ(noisy.reason, "not yet: 95 % confidence interval of the median within ±2 % of it");
  EXPECT_FALSE(decide(rules, {std::span(kSteady).first(9), 3}).stop);
}

TEST(Decide, StopsUnconvergedAtTheTimeCap) {
  const auto rules = stopping_rules(Case{});
  const Decision late = decide(rules, {kNoisy, 21});
  EXPECT_TRUE(late.stop);
  EXPECT_FALSE(late.converged);
  EXPECT_EQ(late.reason,
            "10 repetitions (at most 20 s) did not reach: 95 % confidence interval of the median within ±2 % "
            "of it");
  EXPECT_TRUE(decide(rules, {{}, 21}).stop);
}

TEST(Decide, IsConvergedEvenIfTheLastRepetitionUsedUpTheTime) {
  const Decision both = decide(stopping_rules(Case{}), {kSteady, 21});
  EXPECT_TRUE(both.stop);
  EXPECT_TRUE(both.converged);
}

TEST(StoppingRules, FollowTheCase) {
  Case c;
  c.repetitions = 12;
  c.confidence = 0.99;
  c.max_time = 2.5;
  EXPECT_EQ(
      describe(stopping_rules(c)),
      "at least 12 repetitions; 99 % confidence interval of the median within ±2 % of it; at most 2.5 s");
}

}  // namespace
}  // namespace longseq
