#include "suite/statistics.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <random>
#include <stdexcept>
#include <vector>

namespace longseq {
namespace {

TEST(Median, OfOddAndEvenNumbers) {
  EXPECT_DOUBLE_EQ(median(std::array{3.0, 1.0, 2.0}), 2.0);
  EXPECT_DOUBLE_EQ(median(std::array{4.0, 1.0, 2.0, 3.0}), 2.5);
  EXPECT_DOUBLE_EQ(median(std::array{7.0}), 7.0);
  EXPECT_THROW(median({}), std::invalid_argument);
}

TEST(Quantile, AgreesWithNumpy) {
  // numpy.quantile([15, 20, 35, 40, 50], p), its default method being type 7.
  const std::array samples{50.0, 15.0, 40.0, 20.0, 35.0};
  EXPECT_DOUBLE_EQ(quantile(samples, 0.05), 16.0);
  EXPECT_DOUBLE_EQ(quantile(samples, 0.3), 23.0);
  EXPECT_DOUBLE_EQ(quantile(samples, 0.4), 29.0);
  EXPECT_DOUBLE_EQ(quantile(samples, 0.0), 15.0);
  EXPECT_DOUBLE_EQ(quantile(samples, 1.0), 50.0);
  EXPECT_THROW(quantile(samples, 1.1), std::invalid_argument);
}

struct TableRow {
  std::int64_t n, low, high;
  double coverage;
};

TEST(MedianRanks, AgreeWithPublishedTables) {
  // The ranks that tables of the sign test give for the 95 % interval of a median (n = 10: second and ninth,
  // 97.9 %).
  for (const TableRow& row :
       {TableRow{6, 1, 6, 0.96875}, TableRow{7, 1, 7, 0.984375}, TableRow{8, 1, 8, 0.9921875},
        TableRow{9, 2, 8, 0.9609375}, TableRow{10, 2, 9, 0.978515625}, TableRow{12, 3, 10, 0.961426},
        TableRow{15, 4, 12, 0.964844}, TableRow{20, 6, 15, 0.958611}, TableRow{30, 10, 21, 0.957226}}) {
    const auto ranks = median_ranks(row.n, 0.95);
    ASSERT_TRUE(ranks) << row.n;
    EXPECT_EQ(ranks->low, row.low) << row.n;
    EXPECT_EQ(ranks->high, row.high) << row.n;
    EXPECT_NEAR(ranks->coverage, row.coverage, 1e-6) << row.n;
  }
}

TEST(MedianRanks, NeedEnoughSamples) {
  for (int n = 0; n < 6; ++n) EXPECT_FALSE(median_ranks(n, 0.95)) << n;
  EXPECT_FALSE(median_ranks(7, 0.99));
  EXPECT_TRUE(median_ranks(8, 0.99));
  EXPECT_THROW(median_ranks(10, 1.0), std::invalid_argument);
  EXPECT_THROW(median_ranks(10, 0.0), std::invalid_argument);
}

/// P(at most k of n fair coins show heads), by adding up Pascal's triangle.
double coins_at_most(int k, int n) {
  std::vector<double> row = {1};
  for (int i = 0; i < n; ++i) {
    std::vector<double> next(row.size() + 1, 0);
    for (std::size_t j = 0; j < row.size(); ++j) {
      next[j] += row[j] / 2;
      next[j + 1] += row[j] / 2;
    }
    row = next;
  }
  double sum = 0;
  for (int j = 0; j <= k; ++j) sum += row[static_cast<std::size_t>(j)];
  return sum;
}

TEST(MedianRanks, AgreeWithBruteForce) {
  for (const double confidence : {0.5, 0.9, 0.95, 0.99, 0.9999}) {
    for (int n = 1; n <= 120; ++n) {
      int low = 0;  // the innermost rank that still covers
      while (low + 1 <= (n + 1) / 2 && 1 - 2 * coins_at_most(low, n) >= confidence) ++low;
      const auto ranks = median_ranks(n, confidence);
      ASSERT_EQ(ranks.has_value(), low > 0) << n << " " << confidence;
      if (!ranks) continue;
      EXPECT_EQ(ranks->low, low) << n << " " << confidence;
      EXPECT_EQ(ranks->high, n + 1 - low) << n << " " << confidence;
      EXPECT_NEAR(ranks->coverage, 1 - 2 * coins_at_most(low - 1, n), 1e-12) << n << " " << confidence;
    }
  }
}

TEST(MedianInterval, CoversTheTrueMedianAsOftenAsItSays) {
  std::mt19937_64 random(7);
  std::exponential_distribution<double> skewed(1.0);  // true median: ln 2
  constexpr int kTrials = 20000;
  int covered = 0;
  double coverage = 0;
  for (int trial = 0; trial < kTrials; ++trial) {
    std::array<double, 10> samples{};
    for (double& sample : samples) sample = skewed(random);
    const auto interval = median_interval(samples, 0.95);
    ASSERT_TRUE(interval);
    coverage = interval->coverage;
    covered += interval->low <= std::log(2.0) && std::log(2.0) <= interval->high;
  }
  const double error = std::sqrt(coverage * (1 - coverage) / kTrials);
  EXPECT_NEAR(static_cast<double>(covered) / kTrials, coverage, 4 * error);
}

TEST(MedianInterval, TakesOrderStatistics) {
  const std::array samples{9.0, 1.0, 8.0, 2.0, 7.0, 3.0, 6.0, 4.0, 5.0, 10.0};
  const auto interval = median_interval(samples, 0.95);
  ASSERT_TRUE(interval);
  EXPECT_DOUBLE_EQ(interval->low, 2.0);
  EXPECT_DOUBLE_EQ(interval->high, 9.0);
  EXPECT_DOUBLE_EQ(relative_half_width(*interval, 5.5), 3.5 / 5.5);
  EXPECT_FALSE(median_interval(std::span(samples).first(5), 0.95));
}

TEST(Imbalance, IsMaximumOverMean) {
  EXPECT_DOUBLE_EQ(imbalance(std::array{1.0, 1.0, 4.0}), 2.0);
  EXPECT_DOUBLE_EQ(imbalance(std::array{3.0}), 1.0);
  EXPECT_DOUBLE_EQ(imbalance(std::array{0.0, 0.0}), 1.0);
  EXPECT_THROW(imbalance({}), std::invalid_argument);
}

}  // namespace
}  // namespace longseq
