#include "datasets/documents.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <stdexcept>

namespace longseq {
namespace {

using Starts = std::vector<std::int64_t>;

// Computed with mpmath at 200 bits and Python's integers from the definition in documents.cpp.
TEST(DocumentStarts, AgreesWithAnIndependentComputation) {
  EXPECT_EQ(document_starts(100, 10, 1), (Starts{0, 2, 7, 13, 35, 39, 40, 52, 53, 59, 69, 79, 91, 92}));
  EXPECT_EQ(document_starts(2000000, 3e5, 3),
            (Starts{0, 542256, 797694, 940529, 1247714, 1528781, 1838280, 1921419}));
}

TEST(DocumentStarts, LengthsAreGeometric) {
  for (const double mean : {1.5, 8.0, 300.0}) {
    const std::int64_t seq_len = static_cast<std::int64_t>(mean * 200000);
    const Starts starts = document_starts(seq_len, mean, 11);
    EXPECT_EQ(starts.front(), 0);
    EXPECT_LT(starts.back(), seq_len);
    const auto n = static_cast<double>(starts.size() - 1);
    double sum = 0, squares = 0, ones = 0;
    for (std::size_t i = 1; i < starts.size(); ++i) {
      const auto length = static_cast<double>(starts[i] - starts[i - 1]);
      ASSERT_GE(length, 1);
      sum += length;
      squares += (length - mean) * (length - mean);
      ones += length == 1;
    }
    const double variance = mean * (mean - 1);
    EXPECT_NEAR(sum / n, mean, 4 * std::sqrt(variance / n));
    EXPECT_NEAR(squares / n / variance, 1, 0.03);
    EXPECT_NEAR(ones / n, 1 / mean, 4 * std::sqrt((1 - 1 / mean) / mean / n));
  }
}

TEST(DocumentStarts, LongerSequencesKeepTheBoundaries) {
  const Starts shorter = document_starts(1000, 20, 4);
  const Starts longer = document_starts(5000, 20, 4);
  EXPECT_EQ(Starts(longer.begin(), longer.begin() + static_cast<std::ptrdiff_t>(shorter.size())), shorter);
  EXPECT_GE(longer[shorter.size()], 1000);
  EXPECT_NE(document_starts(1000, 20, 5), shorter);
}

TEST(DocumentStarts, Extremes) {
  EXPECT_EQ(document_starts(1, 1, 0), Starts{0});
  EXPECT_EQ(document_starts(4, 1, 0), (Starts{0, 1, 2, 3}));
  EXPECT_EQ(document_starts(1000, 1e300, 0), Starts{0});
  EXPECT_THROW(document_starts(0, 10, 0), std::invalid_argument);
  EXPECT_THROW(document_starts(10, 0.5, 0), std::invalid_argument);
  EXPECT_THROW(document_starts(10, std::nan(""), 0), std::invalid_argument);
  EXPECT_THROW(document_starts(10, std::numeric_limits<double>::infinity(), 0), std::invalid_argument);
}

}  // namespace
}  // namespace longseq
