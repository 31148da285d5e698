// The engine against the f64 reference: random shapes, patterns, layouts of rows, magnitudes and types, for
// each instruction set that this machine has.
#include "kernels/attention.h"

#include <gtest/gtest.h>
#include <tbb/global_control.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "kernels/attention_reference.h"
#include "kernels/simd.h"

namespace longseq {
namespace {

std::mt19937& engine() {
  static std::mt19937 instance(20261123);
  return instance;
}
std::int64_t upto(std::int64_t low, std::int64_t high) {
  return std::uniform_int_distribution<std::int64_t>(low, high)(engine());
}
bool sees(const Pattern& p, std::int64_t i, std::int64_t j) {
  const VisibleKeys keys = p.visible_keys(i);  // pattern_test.cpp holds these to the definition
  return keys.first.contains(j) || keys.second.contains(j);
}

struct Problem {
  Pattern pattern;
  Shape queries;
  Shape keys;
  double magnitude;
  std::int64_t reach;  // of the bias; negative: none
};

Problem random_problem() {
  Problem p;
  p.pattern.kind = kPatterns[static_cast<std::size_t>(upto(0, 4))].kind;
  p.pattern.causal = upto(0, 1) == 1;
  const std::int64_t s = upto(0, 3) == 0 ? upto(1, 12) : upto(1, 400);
  p.pattern.seq_len = s;
  p.pattern.window_left = upto(0, 70);
  p.pattern.window_right = upto(0, 70);
  p.pattern.global_tokens = upto(0, std::min<std::int64_t>(9, s));
  p.pattern.segment_length = upto(1, 90);
  p.pattern.memory_length = upto(0, 90);
  p.pattern.document_starts = {0};
  for (std::int64_t at = upto(1, 80); at < s; at += upto(1, 80)) p.pattern.document_starts.push_back(at);
  const std::int64_t kv_heads = upto(1, 2);
  constexpr std::int64_t kDims[] = {1, 7, 8, 16, 40, 64, 80, 96, 128, 256};
  const std::int64_t head_dim = kDims[upto(0, 9)];
  p.queries = {upto(1, 2), kv_heads * upto(1, 3), s, head_dim};
  p.keys = {p.queries.batch, kv_heads, s, head_dim};
  p.magnitude = upto(0, 4) == 0 ? 30.0 : 1.0;
  p.reach = upto(0, 2) == 0 ? upto(0, 50) : -1;
  return p;
}

template <class T>
struct Data {
  Tensor<T> q, k, v, o, lse;
  Tensor<double> q64, k64, v64, o64, lse64;
  std::vector<T> table;

  explicit Data(const Problem& p)
      : q(p.queries),
        k(p.keys),
        v(p.keys),
        o(p.queries),
        lse({p.queries.batch, p.queries.heads, p.queries.tokens, 1}),
        q64(p.queries),
        k64(p.keys),
        v64(p.keys),
        o64(p.queries),
        lse64(lse.shape()) {
    std::normal_distribution<double> normal;
    const auto fill = [&](Tensor<T>& tensor, Tensor<double>& wide, double scale) {
      for (std::int64_t i = 0; i < tensor.shape().elements(); ++i) {
        tensor.data()[i] = static_cast<T>(scale * normal(engine()));
        wide.data()[i] = static_cast<double>(tensor.data()[i]);
      }
    };
    fill(q, q64, p.magnitude);
    fill(k, k64, p.magnitude);
    fill(v, v64, 1.0);
    if (p.reach >= 0) {
      table.resize(static_cast<std::size_t>(p.queries.heads * (2 * p.reach + 1)));
      for (T& value : table) value = static_cast<T>(normal(engine()));
    }
    const ScoreBias bias = [this, &p](std::int64_t h, std::int64_t i, std::int64_t j) {
      const std::int64_t distance = std::clamp(i - j, -p.reach, p.reach);
      return static_cast<double>(table[static_cast<std::size_t>(h * (2 * p.reach + 1) + distance + p.reach)]);
    };
    attention_reference([&](std::int64_t i, std::int64_t j) { return sees(p.pattern, i, j); },
                        p.reach >= 0 ? bias : ScoreBias{}, q64.view(), k64.view(), v64.view(), o64.view(),
                        lse64.view());
  }
  DistanceBias<T> bias(const Problem& p) const {
    return {table.empty() ? nullptr : table.data(), std::max<std::int64_t>(p.reach, 0)};
  }
  double relative_error() const {
    double difference = 0, norm = 0;
    for (std::int64_t i = 0; i < o.shape().elements(); ++i) {
      difference += std::pow(static_cast<double>(o.data()[i]) - o64.data()[i], 2);
      norm += std::pow(o64.data()[i], 2);
    }
    return std::sqrt(difference / norm);
  }
  double lse_error() const {  // relative to max(1, |lse|); a row without keys must say −∞
    double worst = 0;
    for (std::int64_t i = 0; i < lse.shape().elements(); ++i) {
      const double expected = lse64.data()[i], got = static_cast<double>(lse.data()[i]);
      if (std::isinf(expected) || !std::isfinite(got)) {
        if (expected != got) return INFINITY;
      } else {
        worst = std::max(worst, std::abs(got - expected) / std::max(1.0, std::abs(expected)));
      }
    }
    return worst;
  }
};

/// The bound of a relative error: rounding of the dot products, of exp2 and of the decays, times how much a
/// weight moves when its score does (scores up to magnitude²·√head_dim·log2 e).
template <class T>
double bound(const Problem& p) {
  const double epsilon = std::numeric_limits<T>::epsilon();
  return epsilon * (12 + std::sqrt(static_cast<double>(p.queries.head_dim)) / 2) *
         std::max(1.0, p.magnitude * p.magnitude / 4);
}

class Attention : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { force_simd_target(GetParam()); }
  void TearDown() override { force_simd_target("auto"); }
};
INSTANTIATE_TEST_SUITE_P(Targets, Attention, testing::ValuesIn(simd_targets()),
                         [](const auto& target) { return target.param; });

template <class T>
void expect_one_call_is_right(int trials) {
  for (int trial = 0; trial < trials; ++trial) {
    const Problem p = random_problem();
    Data<T> data(p);
    attention_forward<T>(p.pattern, data.bias(p), data.q.view(), data.k.view(), data.v.view(), data.o.view(),
                         data.lse.view());
    EXPECT_LT(data.relative_error(), bound<T>(p))
        << "trial " << trial << " D " << p.queries.head_dim << " magnitude " << p.magnitude;
    EXPECT_LT(data.lse_error(), bound<T>(p)) << "trial " << trial;
  }
}
TEST_P(Attention, OfAnyPatternAndShapeMatchesTheReferenceInF32) {
  expect_one_call_is_right<float>(120);
}
TEST_P(Attention, OfAnyPatternAndShapeMatchesTheReferenceInF64) {
  expect_one_call_is_right<double>(60);
}

TEST_P(Attention, TakesKeysBlockByBlockAndRowsInStripes) {
  for (int trial = 0; trial < 80; ++trial) {
    const Problem p = random_problem();
    Data<float> data(p);
    const std::int64_t s = p.pattern.seq_len;
    const std::int64_t stripes = std::min<std::int64_t>(s, upto(1, 5));
    Tensor<float> maximum(data.lse.shape()), sum(data.lse.shape());
    const AttentionState<float> state{data.o.view(), maximum.view(), sum.view()};
    begin_attention(state);
    std::fill_n(data.o.data(), data.o.shape().elements(), std::numeric_limits<float>::quiet_NaN());
    // Stripe r is every stripes-th token: views with a larger token stride.
    const auto stripe = [&]<class View>(View view, std::int64_t r) {
      view.data += r * view.token_stride;
      view.token_stride *= stripes;
      view.shape.tokens = (s - r + stripes - 1) / stripes;
      return view;
    };
    for (std::int64_t step = 0; step < stripes; ++step) {
      std::vector<QueryBlock<float>> blocks;
      for (std::int64_t r = 0; r < stripes; ++r) {
        const std::int64_t source = (r + step + 1) % stripes;  // rows may see nothing at first
        const auto view = [&](TensorView<float> whole) { return stripe(whole, r); };
        const TensorView<const float> k = data.k.view(), v = data.v.view(), q = data.q.view();
        blocks.push_back({stripe(q, r),
                          {r, stripes, (s - r + stripes - 1) / stripes},
                          {view(state.o), view(state.maximum), view(state.sum)},
                          {{stripe(k, source),
                            stripe(v, source),
                            {source, stripes, (s - source + stripes - 1) / stripes}}}});
      }
      attend<float>(p.pattern, data.bias(p), blocks);
    }
    finish_attention(state, data.lse.view());
    EXPECT_LT(data.relative_error(), bound<float>(p)) << trial;
    EXPECT_LT(data.lse_error(), bound<float>(p)) << trial;
  }
}

TEST_P(Attention, IsTheSameBitForBitForAnyNumberOfThreads) {
  const Pattern global{
      .kind = PatternKind::global, .causal = true, .seq_len = 700, .window_left = 60, .global_tokens = 5};
  const Pattern local{.kind = PatternKind::local, .causal = true, .seq_len = 1024, .window_left = 100};
  for (const Pattern& pattern : {global, local}) {
    const std::int64_t s = pattern.seq_len, heads = pattern.kind == PatternKind::local ? 1 : 4;
    const Problem p{pattern, {1, heads, s, 16}, {1, 1, s, 16}, 1.0, -1};
    Data<float> data(p);
    std::vector<float> first;
    for (const int threads : {1, 2, 5}) {
      tbb::global_control limit(tbb::global_control::max_allowed_parallelism,
                                static_cast<std::size_t>(threads));
      tbb::task_arena(threads).execute([&] {
        attention_forward<float>(p.pattern, {}, data.q.view(), data.k.view(), data.v.view(), data.o.view(),
                                 data.lse.view());
      });
      const std::vector<float> now(data.o.data(), data.o.data() + data.o.shape().elements());
      if (first.empty()) first = now;
      EXPECT_EQ(first, now) << threads;
    }
  }
}

TEST_P(Attention, OfScoresOfAThousandStaysFinite) {
  Problem p{{.kind = PatternKind::full, .causal = true, .seq_len = 300},
            {1, 1, 300, 64},
            {1, 1, 300, 64},
            20.0,
            -1};
  Data<float> data(p);
  attention_forward<float>(p.pattern, {}, data.q.view(), data.k.view(), data.v.view(), data.o.view(),
                           data.lse.view());
  EXPECT_LT(data.relative_error(), 3e-6);
  EXPECT_LT(data.lse_error(), 1e-6);
}

TEST(AttentionErrors, ErrorStaysWithinTheBoundOfMathsMd) {
  const std::int64_t s = 3000;
  Problem p{{.kind = PatternKind::full, .seq_len = s}, {1, 1, s, 64}, {1, 1, s, 64}, 1.0, -1};
  Data<float> data(p);
  attention_forward<float>(p.pattern, {}, data.q.view(), data.k.view(), data.v.view(), data.o.view(),
                           data.lse.view());
  EXPECT_LT(data.relative_error(), 3e-6);
}

TEST(AttentionErrors, HeadDimBeyondTheLimitIsRefused) {
  Tensor<float> wide({1, 1, 2, kMaxHeadDim + 1}), lse({1, 1, 2, 1});
  const Pattern pattern{.kind = PatternKind::full, .seq_len = 2};
  std::fill_n(wide.data(), wide.shape().elements(), 0.0f);
  const TensorView<const float> input = wide.view();
  EXPECT_THROW(attention_forward<float>(pattern, {}, input, input, input, wide.view(), lse.view()),
               std::invalid_argument);
}

}  // namespace
}  // namespace longseq
