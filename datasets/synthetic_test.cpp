#include "datasets/synthetic.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <set>
#include <vector>

#include "datasets/philox.h"
#include "datasets/portable_math.h"

namespace longseq {
namespace {

// Random123's kat_vectors, philox4x32 10.
TEST(Philox, KnownAnswers) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
            (PhiloxCounter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (PhiloxCounter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (PhiloxCounter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(PortableMath, LogarithmSineCosineAgreeWithLibm) {
  for (std::uint64_t i = 0; i < 200000; ++i) {
    const auto word =
        static_cast<std::uint32_t>(i * 0x9E3779B97F4A7C15u >> 32) ^ static_cast<std::uint32_t>(i << 30);
    const double u = (word + 0.5) / 4294967296.0;
    EXPECT_NEAR(portable_log(u), std::log(u), 1e-15 * std::abs(std::log(u)));
    const auto [sine, cosine] = portable_sine_cosine(word);
    const long double angle = 2 * 3.14159265358979323846264338327950288L * (word + 0.5L) / 4294967296.0L;
    EXPECT_NEAR(sine, static_cast<double>(std::sin(angle)), 3e-16);
    EXPECT_NEAR(cosine, static_cast<double>(std::cos(angle)), 3e-16);
  }
  for (const double x : {1e-300, 1e-16, 0.999999999999, 1.0, 1.5, 1e300}) {
    EXPECT_NEAR(portable_log(x), std::log(x), 1e-15 * std::abs(std::log(x))) << x;
  }
}

template <class T>
T one_normal(std::uint64_t seed, TensorId id, std::int64_t b, std::int64_t h, std::int64_t position,
             std::int64_t d) {
  Tensor<T> tensor({b + 1, 1, 1, d + 1});
  fill_normal(tensor.view(), {position, 1, 1}, seed, id, 1.0, h);
  return *(tensor.view().row(b, 0, 0) + d);
}

// Computed with mpmath at 200 bits and Python's integers from the definition in synthetic.cpp.
TEST(FillNormal, AgreesWithAnIndependentComputation) {
  EXPECT_NEAR(one_normal<double>(42, TensorId::q, 0, 0, 0, 0), 0.088678639009484034685, 1e-16);
  EXPECT_NEAR(one_normal<double>(42, TensorId::q, 0, 0, 0, 1), 0.52378728992065164017, 2e-16);
  EXPECT_NEAR(one_normal<double>(42, TensorId::k, 1, 3, 12345, 63), -0.28577972885927436807, 2e-16);
  EXPECT_NEAR(one_normal<double>(42, TensorId::v, 0, 7, 8589934597, 6), 1.3611801754381532119, 4e-16);
  EXPECT_NEAR(one_normal<double>((std::uint64_t{1} << 40) + 1, TensorId::output_gradient, 2, 65535, 1, 255),
              -0.37982364207379164381, 2e-16);
  EXPECT_EQ(one_normal<float>(42, TensorId::q, 0, 0, 0, 0), static_cast<float>(0.088678639009484034685));
}

TEST(FillNormal, AnyShardIsThatPartOfTheWhole) {
  const std::vector<longseq::Run> shards{{0, 1, 10}, {10, 1, 19}, {1, 3, 9}, {28, -1, 29}, {4, 1, 0}};
  const Shape shape{2, 3, 29, 10};  // no dimension divides another
  Tensor<float> whole(shape);
  fill_normal(whole.view(), {0, 1, 29}, 5, TensorId::k, 0.5);
  for (const longseq::Run run : shards) {
    for (std::int64_t head = 0; head < shape.heads; ++head) {
      Tensor<float> shard({2, 1, run.count, 10});
      fill_normal(shard.view(), run, 5, TensorId::k, 0.5, head);
      for (std::int64_t b = 0; b < 2; ++b) {
        for (std::int64_t t = 0; t < run.count; ++t) {
          for (std::int64_t d = 0; d < 10; ++d) {
            ASSERT_EQ(shard.view().row(b, 0, t)[d], whole.view().row(b, head, run.at(t))[d]);
          }
        }
      }
    }
  }
}

TEST(FillNormal, SinglePrecisionIsDoubleRoundedAndStridesAreKept) {
  const Shape shape{1, 2, 5, 6};
  std::vector<double> wide(2 * 5 * 8, -7.0);
  const TensorView<double> padded{wide.data(), shape, 80, 40, 8};  // two elements of padding after each row
  fill_normal(padded, {3, 2, 5}, 9, TensorId::v, 2.0);
  Tensor<float> narrow(shape);
  fill_normal(narrow.view(), {3, 2, 5}, 9, TensorId::v, 2.0);
  for (std::int64_t h = 0; h < 2; ++h) {
    for (std::int64_t t = 0; t < 5; ++t) {
      for (std::int64_t d = 0; d < 6; ++d) {
        EXPECT_EQ(narrow.view().row(0, h, t)[d], static_cast<float>(padded.row(0, h, t)[d]));
      }
      EXPECT_EQ(padded.row(0, h, t)[6], -7.0);
      EXPECT_EQ(padded.row(0, h, t)[7], -7.0);
    }
  }
}

// The same bits whatever the compiler, its optimisation, the instruction set and libm: a change here changes
// every synthetic case, and must be meant.
TEST(FillNormal, BitsNeverChange) {
  Tensor<double> tensor({1, 2, 64, 64});
  fill_normal(tensor.view(), {1000, 1, 64}, 2024, TensorId::q);
  std::uint64_t hash = 0;
  for (std::int64_t i = 0; i < tensor.shape().elements(); ++i) {
    hash = hash * 6364136223846793005u + std::bit_cast<std::uint64_t>(tensor.data()[i]);
  }
  EXPECT_EQ(hash, 6024866469246560092u);
}

TEST(FillNormal, MomentsOfTheStandardNormal) {
  const std::int64_t n = 4 * 4096 * 64;
  Tensor<double> z({1, 4, 4096, 64});
  fill_normal(z.view(), {0, 1, 4096}, 1, TensorId::q);
  double moment[5] = {};
  double neighbours = 0;
  std::int64_t within_one = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const double x = z.data()[i];
    for (int k = 1; k <= 4; ++k) moment[k] += std::pow(x, k) / static_cast<double>(n);
    if (i > 0) neighbours += x * z.data()[i - 1] / static_cast<double>(n);
    within_one += std::abs(x) < 1;
  }
  const double sigma = 1 / std::sqrt(static_cast<double>(n));  // of a mean of n numbers of variance 1
  EXPECT_NEAR(moment[1], 0, 4 * sigma);
  EXPECT_NEAR(moment[2], 1, 4 * sigma * std::sqrt(2));
  EXPECT_NEAR(moment[3], 0, 4 * sigma * std::sqrt(15));
  EXPECT_NEAR(moment[4], 3, 4 * sigma * std::sqrt(96));
  EXPECT_NEAR(neighbours, 0, 4 * sigma);
  EXPECT_NEAR(static_cast<double>(within_one) / static_cast<double>(n), 0.6826894921370859,
              4 * sigma * 0.466);
}

TEST(FillNormal, SeedsTensorsBatchesHeadsPositionsDiffer) {
  std::set<double> values;
  for (std::uint64_t seed : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1} << 32}) {
    for (TensorId id : {TensorId::q, TensorId::k, TensorId::v, TensorId::output_gradient}) {
      for (std::int64_t b : {0, 1}) {
        for (std::int64_t h : {0, 1}) {
          for (std::int64_t position : {std::int64_t{0}, std::int64_t{1}, std::int64_t{1} << 32}) {
            for (std::int64_t d : {0, 1, 2, 3, 4})
              values.insert(one_normal<double>(seed, id, b, h, position, d));
          }
        }
      }
    }
  }
  EXPECT_EQ(values.size(), 3u * 4 * 2 * 2 * 3 * 5);
}

TEST(FillNormal, RefusesWhatHasNoCounter) {
  Tensor<float> tensor({1, 1, 4, 8});
  EXPECT_THROW(fill_normal(tensor.view(), {0, 1, 3}, 0, TensorId::q), std::invalid_argument);
  EXPECT_THROW(fill_normal(tensor.view(), {-1, 1, 4}, 0, TensorId::q), std::invalid_argument);
  EXPECT_THROW(fill_normal(tensor.view(), {2, -1, 4}, 0, TensorId::q), std::invalid_argument);
  EXPECT_THROW(fill_normal(tensor.view(), {0, 1, 4}, 0, TensorId::q, 1.0, 65536), std::invalid_argument);
}

// Same independent computation as above.
TEST(SeededNormal, ValuesAndSlices) {
  std::vector<double> values(11);
  seeded_normal(values, 7, 0);
  EXPECT_NEAR(values[0], 0.77393118360811328112, 2e-16);
  EXPECT_NEAR(values[5], -0.98130876572167889797, 2e-16);
  for (std::size_t first = 0; first < values.size(); ++first) {
    std::vector<float> slice(values.size() - first);
    seeded_normal(slice, 7, 0, 3.0, static_cast<std::int64_t>(first));
    for (std::size_t i = 0; i < slice.size(); ++i)
      EXPECT_EQ(slice[i], static_cast<float>(3.0 * values[first + i]));
  }
  double far = 0;
  seeded_normal(std::span(&far, 1), 7, 9, 1.0, (std::int64_t{1} << 34) + 3);
  EXPECT_NEAR(far, -0.41132810006455183589, 2e-16);
  EXPECT_THROW(seeded_normal(values, 7, 0, 1.0, -1), std::invalid_argument);
}

}  // namespace
}  // namespace longseq
