#include "kernels/merge.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace longseq {
namespace {

constexpr float kNothing = -std::numeric_limits<float>::infinity();

struct Partial {
  std::vector<float> o;
  std::vector<float> lse;
  TensorView<float> o_view() {
    return dense_view(o.data(), {1, 1, static_cast<std::int64_t>(lse.size()), 2});
  }
  TensorView<float> lse_view() {
    return dense_view(lse.data(), {1, 1, static_cast<std::int64_t>(lse.size()), 1});
  }
};

TEST(Merge, IsTheWeightedMeanWithTheSummedWeight) {
  // exp(lse) are the weights: (1, 3) and (5, −1) with weights 2 and 6 give (4, 0) with weight 8.
  Partial a{{1, 3}, {std::log(2.0f)}}, b{{5, -1}, {std::log(6.0f)}};
  merge_attention<float>(a.o_view(), a.lse_view(), b.o_view(), b.lse_view());
  EXPECT_NEAR(a.o[0], 4.0f, 1e-6);
  EXPECT_NEAR(a.o[1], 0.0f, 1e-6);
  EXPECT_NEAR(a.lse[0], std::log(8.0f), 1e-6);
}

TEST(Merge, TakesTheOtherSideWhereOneSawNothing) {
  Partial a{{0, 0, 7, 8, 0, 0}, {kNothing, 2.0f, kNothing}},
      b{{1, 2, 0, 0, 0, 0}, {-1.0f, kNothing, kNothing}};
  merge_attention<float>(a.o_view(), a.lse_view(), b.o_view(), b.lse_view());
  EXPECT_EQ(a.o, (std::vector<float>{1, 2, 7, 8, 0, 0}));
  EXPECT_EQ(a.lse, (std::vector<float>{-1.0f, 2.0f, kNothing}));
}

TEST(Merge, OfScoresFarApartDoesNotOverflow) {
  Partial a{{1, 1, 1, 1}, {-1000.0f, 1000.0f}}, b{{2, 2, 2, 2}, {1000.0f, -1000.0f}};
  merge_attention<float>(a.o_view(), a.lse_view(), b.o_view(), b.lse_view());
  EXPECT_EQ(a.o, (std::vector<float>{2, 2, 1, 1}));
  EXPECT_EQ(a.lse, (std::vector<float>{1000.0f, 1000.0f}));
}

}  // namespace
}  // namespace longseq
