#include "kernels/projection.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "kernels/peak.h"

namespace longseq {
namespace {

TEST(Projection, OfEmbeddedTokensMatchesTheTripleLoop) {
  const std::int64_t tokens = 301, width = 24, heads = 3, head_dim = 10, vocabulary = 7;
  std::mt19937 engine(5);
  std::normal_distribution<double> normal;
  std::vector<double> table(static_cast<std::size_t>(vocabulary * width)),
      w(static_cast<std::size_t>(width * heads * head_dim));
  for (double& value : table) value = normal(engine);
  for (double& value : w) value = normal(engine);
  std::vector<std::int32_t> ids;
  for (std::int64_t t = 0; t < tokens; ++t) ids.push_back(static_cast<std::int32_t>((t * t) % vocabulary));
  Tensor<double> x({1, 1, tokens, width}), y({1, heads, tokens, head_dim});
  embed<double>(ids, table, x.view());
  project_heads<double>(x.view(), w, y.view());
  for (std::int64_t h = 0; h < heads; ++h) {
    for (std::int64_t t = 0; t < tokens; ++t) {
      for (std::int64_t d = 0; d < head_dim; ++d) {
        double expected = 0;
        for (std::int64_t i = 0; i < width; ++i) {
          expected += table[static_cast<std::size_t>(ids[static_cast<std::size_t>(t)] * width + i)] *
                      w[static_cast<std::size_t>(i * heads * head_dim + h * head_dim + d)];
        }
        ASSERT_NEAR(y.view().row(0, h, t)[d], expected, 1e-12);
      }
    }
  }
}

TEST(Projection, RefusesATokenOutsideTheVocabulary) {
  Tensor<float> x({1, 1, 2, 4});
  const std::vector<float> table(12, 0.0f);
  const std::vector<std::int32_t> ids{2, 3};
  EXPECT_THROW(embed<float>(ids, table, x.view()), std::invalid_argument);
}

TEST(Peak, CountsWhatItDoes) {
  EXPECT_GT(measure_fma_rate<float>(0.01), 1e8);
  EXPECT_GT(measure_fma_rate<double>(0.01), 1e8);
  EXPECT_GT(measure_triad_rate(1 << 16, 0.01), 1e7);
}

}  // namespace
}  // namespace longseq
