#include "kernels/position.h"

#include <gtest/gtest.h>

#include <cmath>
#include <complex>
#include <random>

namespace longseq {
namespace {

TEST(Rotary, IsMultiplicationByAUnitComplexNumber) {
  const Shape shape{1, 2, 3, 6};
  const longseq::Run positions{1000, 7, 3};
  std::vector<double> x(static_cast<std::size_t>(shape.elements()));
  std::mt19937 engine(1);
  std::normal_distribution<double> normal;
  for (double& value : x) value = normal(engine);
  const std::vector<double> before = x;
  rotate_by_position(dense_view(x.data(), shape), positions);
  for (std::size_t row = 0; row < 6; ++row) {
    for (std::size_t k = 0; k < 3; ++k) {
      const double angle = static_cast<double>(positions.at(static_cast<std::int64_t>(row % 3))) *
                           std::pow(10000.0, -static_cast<double>(k) / 3.0);
      const std::complex<double> turned =
          std::complex<double>(before[row * 6 + 2 * k], before[row * 6 + 2 * k + 1]) * std::polar(1.0, angle);
      EXPECT_NEAR(x[row * 6 + 2 * k], turned.real(), 1e-12);
      EXPECT_NEAR(x[row * 6 + 2 * k + 1], turned.imag(), 1e-12);
    }
  }
}

TEST(Rotary, MakesProductsDependOnDistanceAlone) {
  const auto product = [](std::int64_t i, std::int64_t j) {
    std::vector<double> q{0.3, -1.2, 0.7, 2.0}, k{1.1, 0.4, -0.6, 0.9};
    rotate_by_position(dense_view(q.data(), {1, 1, 1, 4}), {i, 1, 1});
    rotate_by_position(dense_view(k.data(), {1, 1, 1, 4}), {j, 1, 1});
    return q[0] * k[0] + q[1] * k[1] + q[2] * k[2] + q[3] * k[3];
  };
  EXPECT_NEAR(product(5, 2), product(1005, 1002), 1e-11);
  EXPECT_GT(std::abs(product(5, 2) - product(5, 3)), 1e-3);
}

TEST(Rotary, TheGradientRotatesBack) {
  // Σ w·rotate(x) has the gradient rotate⁻¹(w) in x, whatever x.
  std::vector<double> x{0.3, -1.2, 0.7, 2.0}, w{1.1, 0.4, -0.6, 0.9}, gradient = w;
  rotate_gradient_by_position(dense_view(gradient.data(), {1, 1, 1, 4}), {77, 1, 1});
  const auto loss = [&w](std::vector<double> y) {
    rotate_by_position(dense_view(y.data(), {1, 1, 1, 4}), {77, 1, 1});
    return y[0] * w[0] + y[1] * w[1] + y[2] * w[2] + y[3] * w[3];
  };
  for (std::size_t i = 0; i < 4; ++i) {
    std::vector<double> above = x, below = x;
    above[i] += 0.5;
    below[i] -= 0.5;
    EXPECT_NEAR(gradient[i], loss(above) - loss(below), 1e-12);  // linear, so the slope is exact
  }
}

TEST(Rotary, RefusesAnOddHeadDim) {
  std::vector<float> x(3);
  EXPECT_THROW(rotate_by_position(dense_view(x.data(), {1, 1, 1, 3}), {0, 1, 1}), std::invalid_argument);
}

TEST(Sinusoid, ConcatenatesSinesAndCosines) {
  std::vector<double> x(4, 0.5);
  add_sinusoid(dense_view(x.data(), {1, 1, 1, 4}), {3, 1, 1});
  EXPECT_NEAR(x[0], 0.5 + std::sin(3.0), 1e-12);
  EXPECT_NEAR(x[1], 0.5 + std::sin(0.03), 1e-12);
  EXPECT_NEAR(x[2], 0.5 + std::cos(3.0), 1e-12);
  EXPECT_NEAR(x[3], 0.5 + std::cos(0.03), 1e-12);
}

TEST(Alibi, HasThePapersSlopes) {
  const auto eight = alibi_table<double>(8, 1);  // slopes 1/2, 1/4, ... (Press et al. 2022, section 3)
  for (std::size_t h = 0; h < 8; ++h) {
    EXPECT_DOUBLE_EQ(eight[3 * h], -std::pow(0.5, static_cast<double>(h + 1)));
    EXPECT_DOUBLE_EQ(eight[3 * h + 1], 0.0);
    EXPECT_DOUBLE_EQ(eight[3 * h + 2], eight[3 * h]);
  }
  // The paper's code for 12 heads: the 8 slopes of 8 heads, then every second of 16 heads.
  const auto twelve = alibi_table<double>(12, 1);
  EXPECT_DOUBLE_EQ(twelve[3 * 8], -std::pow(2.0, -0.5));
  EXPECT_DOUBLE_EQ(twelve[3 * 9], -std::pow(2.0, -1.5));
}

TEST(Elan, SumsTheWeightsOfTheDistancesDigits) {
  const std::vector<double> w{1, 10, 100, 2, 20, 200};  // two heads, digits of 1, 2 and 4
  const auto table = elan_table<double>(w, 2, 5);
  EXPECT_EQ(table, (std::vector<double>{0, 0, 0, 0, 0, 0, 1, 10, 11, 100, 101,  //
                                        0, 0, 0, 0, 0, 0, 2, 20, 22, 200, 202}));
}

TEST(Elan, ItsGradientIsTheTransposeOfTheTable) {
  const std::vector<double> w{1, 10, 100, 2, 20, 200};
  std::vector<double> d_table(22);
  for (std::size_t i = 0; i < d_table.size(); ++i) d_table[i] = std::sin(static_cast<double>(i));
  const auto table = elan_table<double>(w, 2, 5), gradient = elan_gradient<double>(d_table, 2, 5, 3);
  double through_table = 0, through_weights = 0;
  for (std::size_t i = 0; i < table.size(); ++i) through_table += table[i] * d_table[i];
  for (std::size_t i = 0; i < w.size(); ++i) through_weights += w[i] * gradient[i];
  EXPECT_NEAR(through_table, through_weights, 1e-12);
}

TEST(Elan, RefusesTooFewDigits) {
  const std::vector<double> w{1, 10};
  EXPECT_THROW(elan_table<double>(w, 1, 4), std::invalid_argument);
  EXPECT_NO_THROW(elan_table<double>(w, 1, 3));
}

TEST(RelativeKeys, ProjectTheSinusoidOfEachDistance) {
  const std::int64_t width = 4, heads = 2, head_dim = 3;
  std::vector<double> w(static_cast<std::size_t>(width * heads * head_dim));
  for (std::size_t i = 0; i < w.size(); ++i) w[i] = std::sin(static_cast<double>(i));
  const Interval distances{-2, 5000};  // of more than one block
  const Tensor<double> r = relative_keys<double>(w, heads, head_dim, distances);
  for (const std::int64_t n : {-2, 0, 1, 4093, 4095, 4999}) {
    const double angle = static_cast<double>(n);
    const double sinusoid[] = {std::sin(angle), std::sin(angle / 100), std::cos(angle),
                               std::cos(angle / 100)};
    for (std::int64_t h = 0; h < heads; ++h) {
      for (std::int64_t d = 0; d < head_dim; ++d) {
        double expected = 0;
        for (std::int64_t i = 0; i < width; ++i)
          expected += sinusoid[i] * w[static_cast<std::size_t>(i * heads * head_dim + h * head_dim + d)];
        EXPECT_NEAR(r.view().row(0, h, n - distances.begin)[d], expected, 1e-12) << n;
      }
    }
  }
}

TEST(RelativeKeys, TheirGradientIsTheTranspose) {
  const std::int64_t width = 4, heads = 2, head_dim = 3;
  const Interval distances{-2, 9};
  std::vector<double> w(static_cast<std::size_t>(width * heads * head_dim));
  for (std::size_t i = 0; i < w.size(); ++i) w[i] = std::sin(static_cast<double>(i));
  const Tensor<double> r = relative_keys<double>(w, heads, head_dim, distances);
  Tensor<double> d_r(r.shape());
  double through_keys = 0, through_weights = 0;
  for (std::int64_t i = 0; i < r.shape().elements(); ++i) {
    d_r.data()[i] = std::cos(static_cast<double>(i));
    through_keys += r.data()[i] * d_r.data()[i];
  }
  const std::vector<double> d_w = relative_keys_gradient<double>(std::as_const(d_r).view(), width, distances);
  for (std::size_t i = 0; i < w.size(); ++i) through_weights += w[i] * d_w[i];
  EXPECT_NEAR(through_keys, through_weights, 1e-12);
}

}  // namespace
}  // namespace longseq
