// The backward engine against the f64 reference, and both against finite differences: random shapes,
// patterns, position terms, layouts of rows, magnitudes and types, for each instruction set that this machine
// has.
#include "kernels/attention_backward.h"

#include <gtest/gtest.h>

#include "kernels/each_target.h"
#include "kernels/parallel_rows.h"
#include "kernels/random_attention.h"
#include "kernels/simd.h"
#include "kernels/with_threads.h"

namespace longseq {
namespace {

/// All that a backward pass gives.
template <class A>
struct Gradients {
  Tensor<A> dq, dk, dv, d_table, d_r, d_content_bias, d_position_bias;

  template <class T>
  explicit Gradients(const RandomAttention<T>& data)
      : dq(data.dq.shape()),
        dk(data.dk.shape()),
        dv(data.dv.shape()),
        d_table(data.d_table.shape()),
        d_r(data.d_r.shape()),
        d_content_bias(data.d_content_bias.shape()),
        d_position_bias(data.d_position_bias.shape()) {
    for (Tensor<A>* tensor : {&dq, &dk, &dv, &d_table, &d_r, &d_content_bias, &d_position_bias})
      std::fill_n(tensor->data(), tensor->shape().elements(), A{0});
  }
  InputGradients<A> inputs() { return {dq.view(), dk.view(), dv.view()}; }
  TermGradients<A> terms(const Problem& problem) {
    TermGradients<A> result;
    if (problem.bias_reach >= 0) result.bias = d_table.data();
    if (problem.distances > 0) {
      result.r = d_r.view();
      result.content_bias = d_content_bias.data();
      result.position_bias = d_position_bias.data();
    }
    return result;
  }
  std::vector<A> all() const {
    std::vector<A> values;
    for (const Tensor<A>* tensor : {&dq, &dk, &dv, &d_table, &d_r, &d_content_bias, &d_position_bias})
      values.insert(values.end(), tensor->data(), tensor->data() + tensor->shape().elements());
    return values;
  }
};

/// dS is a difference of products of v and do, and loses what they cancel; where one key carries a row, all
/// of it. So errors are held against the size of what is cancelled: gradients of a random problem with
/// `magnitude` 1 are about 1, with a larger one they can be as small as rounding.
template <class T>
void expect_right(const RandomAttention<T>& data, const Gradients<Accumulator<T>>& got, const char* what,
                  int trial) {
  using A = Accumulator<T>;
  const auto error = [](const Tensor<A>& own, const Tensor<double>& exact, double scale) {
    double difference = 0, norm = 0;
    for (std::int64_t i = 0; i < own.shape().elements(); ++i) {
      difference += std::pow(static_cast<double>(own.data()[i]) - exact.data()[i], 2);
      norm += std::pow(exact.data()[i], 2);
    }
    return std::sqrt(difference / (norm + scale * scale * static_cast<double>(own.shape().elements())));
  };
  // As pairs, weights and dS are themselves rounded to bf16, as in every framework.
  const bool pairs = std::is_same_v<T, BFloat16> && pair_products() != PairProducts::none;
  const double bound = 3 * data.rounding() + (pairs ? 0x1p-8 : 0.0);
  const double magnitude = data.problem.magnitude;
  EXPECT_LT(error(got.dq, data.dq, magnitude), bound) << what << " dq, trial " << trial;
  EXPECT_LT(error(got.dk, data.dk, magnitude), bound) << what << " dk, trial " << trial;
  EXPECT_LT(error(got.dv, data.dv, 1e-3), bound) << what << " dv, trial " << trial;
  if (data.problem.bias_reach >= 0) {
    EXPECT_LT(error(got.d_table, data.d_table, 1.0), bound) << what << " table, trial " << trial;
  }
  if (data.problem.distances == 0) return;
  EXPECT_LT(error(got.d_r, data.d_r, magnitude), bound) << what << " r, trial " << trial;
  EXPECT_LT(error(got.d_content_bias, data.d_content_bias, magnitude), bound)
      << what << " u, trial " << trial;
  EXPECT_LT(error(got.d_position_bias, data.d_position_bias, 1.0), bound) << what << " v, trial " << trial;
}

/// o and lse as the forward pass gives them.
template <class T>
struct Forward {
  Tensor<T> o;
  Tensor<Accumulator<T>> lse;
  explicit Forward(const RandomAttention<T>& data) : o(data.o.shape()), lse(data.lse.shape()) {
    attention_forward<T>(data.problem.pattern, data.terms(), data.inputs(), o.view(), lse.view());
  }
};

template <class T>
Gradients<Accumulator<T>> backward(const RandomAttention<T>& data, const Forward<T>& forward) {
  Gradients<Accumulator<T>> got(data);
  attention_backward<T>(data.problem.pattern, data.terms(), data.inputs(), std::as_const(forward.o).view(),
                        std::as_const(forward.lse).view(), data.d_o.view(), got.inputs(),
                        got.terms(data.problem));
  return got;
}

/// delta from the reference's o: the forward pass's would bring its own rounding to bf16 along.
template <class T>
Tensor<Accumulator<T>> exact_delta(const RandomAttention<T>& data) {
  Tensor<double> exact(data.lse.shape());
  attention_delta<double>(data.o.view(), data.d_o.exact.view(), exact.view());
  Tensor<Accumulator<T>> delta(data.lse.shape());
  std::transform(exact.data(), exact.data() + exact.shape().elements(), delta.data(),
                 [](double value) { return static_cast<Accumulator<T>>(value); });
  return delta;
}

template <class T>
void expect_one_call_is_right(int usual) {
  Random random(20261124);
  for (int trial = 0; trial < trials(usual); ++trial) {
    RandomAttention<T> data(random_problem(random, 300), random);
    data.differentiate();
    for_each_target<T>([&] {
      const Forward<T> forward(data);
      const Tensor<Accumulator<T>> delta = exact_delta(data);
      Gradients<Accumulator<T>> got(data);
      const longseq::Run tokens{0, 1, data.problem.pattern.seq_len};
      const GradientQueries<T> queries{data.q.view(), data.d_o.view(), forward.lse.view(),
                                       delta.view(),  tokens,          got.dq.view()};
      const GradientKeys<T> keys{data.k.view(), data.v.view(), tokens, got.dk.view(), got.dv.view(), {0}};
      attend_backward<T>(data.problem.pattern, data.terms(), std::span(&queries, 1), std::span(&keys, 1),
                         got.terms(data.problem));
      expect_right(data, got, "one call", trial);
    });
  }
}
TEST(AttentionBackward, OfAnyPatternAndShapeMatchesTheReferenceInF32) {
  expect_one_call_is_right<float>(100);
}
TEST(AttentionBackward, OfAnyPatternAndShapeMatchesTheReferenceInF64) {
  expect_one_call_is_right<double>(50);
}
TEST(AttentionBackward, OfAnyPatternAndShapeMatchesTheReferenceInBf16) {
  expect_one_call_is_right<BFloat16>(50);
}

/// Keys and queries in stripes, each pair of stripes in a call of its own, as the steps of a ring. The first
/// call, which may have nothing to add, finds gradients that mean nothing, or, of some keys, zeros to add to.
TEST(AttentionBackward, TakesKeysBlockByBlockAndRowsInStripes) {
  Random random(8);
  for (int trial = 0; trial < trials(50); ++trial) {
    RandomAttention<float> data(random_problem(random, 300), random);
    data.differentiate();
    for_each_target<float>([&] {
      Random draws = random;  // the same for each target
      const Forward<float> forward(data);
      const Tensor<float> delta = exact_delta(data);
      const std::int64_t s = data.problem.pattern.seq_len;
      const std::int64_t stripes = std::min<std::int64_t>(s, draws.upto(1, 5));
      Gradients<float> got(data);
      for (Tensor<float>* tensor : {&got.dq, &got.dk, &got.dv})
        std::fill_n(tensor->data(), tensor->shape().elements(), std::numeric_limits<float>::quiet_NaN());
      std::vector<GradientQueries<float>> queries;
      for (std::int64_t r = 0; r < stripes; ++r) {
        const auto own = [&](auto view) { return stripe(view, r, stripes); };
        queries.push_back({own(data.q.view()), own(data.d_o.view()), own(forward.lse.view()),
                           own(delta.view()), stripe_positions(s, r, stripes), own(got.dq.view())});
      }
      const bool pairwise = draws.upto(0, 1) == 1;
      for (std::int64_t step = 0; step < (pairwise ? stripes : 1); ++step) {
        std::vector<GradientKeys<float>> keys;
        for (std::int64_t r = 0; r < stripes; ++r) {
          std::vector<std::size_t> seeing;
          for (std::int64_t other = 0; other < stripes; ++other) {
            if (!pairwise || other == (r + step + 1) % stripes)
              seeing.push_back(static_cast<std::size_t>(other));
          }
          keys.push_back({stripe(data.k.view(), r, stripes), stripe(data.v.view(), r, stripes),
                          stripe_positions(s, r, stripes), stripe(got.dk.view(), r, stripes),
                          stripe(got.dv.view(), r, stripes), seeing});
          if (step > 0) continue;
          GradientKeys<float>& block = keys.back();
          const std::int64_t count = block.positions.count;
          block.first = {0, count};
          if (draws.upto(0, 1) == 1) {
            block.first.begin = draws.upto(0, count);
            block.first.end = draws.upto(block.first.begin, count);
          }
          for (const TensorView<float>& gradient : {block.dk, block.dv}) {
            set_to_zero(gradient.tokens({0, block.first.begin}));
            set_to_zero(gradient.tokens({block.first.end, count}));
          }
        }
        for (GradientQueries<float>& block : queries) block.first = step == 0;
        attend_backward<float>(data.problem.pattern, data.terms(), queries, keys, got.terms(data.problem));
      }
      expect_right(data, got, pairwise ? "pairs" : "stripes", trial);
    });
  }
}

/// Queries before all keys of a causal call, listed with them or not; all gradients of the keys are written,
/// or a part.
TEST(AttentionBackward, FirstWritesZerosWhereNothingIsSeen) {
  const std::int64_t s = 300, rows = 150;
  Random random(13);
  const RandomAttention<float> data({.pattern = {.kind = PatternKind::full, .causal = true, .seq_len = s},
                                     .queries = {2, 4, s, 16},
                                     .keys = {2, 2, s, 16}},
                                    random);
  for_each_target<float>([&] {
    const std::int64_t part = 70;
    const Forward<float> forward(data);
    for (const auto& [listed, written_keys] :
         {std::pair(false, rows), std::pair(true, rows), std::pair(false, part), std::pair(true, part)}) {
      Gradients<float> got(data);
      for (Tensor<float>* tensor : {&got.dq, &got.dk, &got.dv})
        std::fill_n(tensor->data(), tensor->shape().elements(), 7.0f);
      const auto early = [&](auto view) { return view.tokens({0, rows}); };
      const auto late = [&](auto view) { return view.tokens({rows, s}); };
      GradientQueries<float> queries{
          early(data.q.view()),      early(data.d_o.view()), early(forward.lse.view()),
          early(forward.lse.view()), {0, 1, rows},           early(got.dq.view())};
      GradientKeys<float> keys{late(data.k.view()), late(data.v.view()), {rows, 1, rows},
                               late(got.dk.view()), late(got.dv.view()), {}};
      if (listed) keys.queries = {0};
      queries.first = true;
      keys.first = {0, written_keys};
      attend_backward<float>(data.problem.pattern, {}, std::span(&queries, 1), std::span(&keys, 1));
      for (const auto& [gradient, written] :
           {std::pair(&got.dq, Interval{0, rows}), std::pair(&got.dk, Interval{rows, rows + written_keys}),
            std::pair(&got.dv, Interval{rows, rows + written_keys})}) {
        for (std::int64_t t = 0; t < s; ++t)
          EXPECT_EQ(*gradient->view().row(1, 1, t), written.contains(t) ? 0.0f : 7.0f) << t;
      }
    }
  });
}

/// And however sums lie in registers.
template <class T>
void expect_same_bits(std::int64_t s, std::int64_t head_dim) {
  Random random(9);
  for (const std::int64_t heads : {1, 4}) {
    Problem problem{.pattern = {.kind = PatternKind::full, .causal = true, .seq_len = s},
                    .queries = {2, heads, s, head_dim},
                    .keys = {2, 1, s, head_dim}};
    if (heads == 1) {
      problem.bias_reach = 300;
      problem.distances = 800;
      problem.first_distance = 0;
    }
    const RandomAttention<T> data(problem, random);
    for_each_target<T>([&] {
      const Forward<T> forward(data);
      std::vector<Accumulator<T>> first;
      for_each_register_tile([&] {
        for (const int threads : {1, 2, 3, 8}) {
          const std::vector<Accumulator<T>> now =
              with_threads(threads, [&] { return backward(data, forward).all(); });
          if (first.empty()) first = now;
          EXPECT_EQ(first, now) << threads;
        }
      });
    });
  }
}
TEST(AttentionBackward, IsTheSameBitForBitForAnyNumberOfThreads) {
  expect_same_bits<float>(800, 64);
  expect_same_bits<double>(500, 40);
}

template <class T>
void expect_same_bits_with_either_tile(int usual) {
  Random random(13);
  for (int trial = 0; trial < trials(usual); ++trial) {
    const RandomAttention<T> data(random_problem(random, 500), random);
    for_each_target<T>([&] {
      const Forward<T> forward(data);
      std::vector<Accumulator<T>> first;
      for_each_register_tile([&] {
        const std::vector<Accumulator<T>> now = backward(data, forward).all();
        if (first.empty()) first = now;
        EXPECT_EQ(first, now) << trial;
      });
    });
  }
}
TEST(AttentionBackward, IsTheSameBitForBitForEitherRegisterTile) {
  expect_same_bits_with_either_tile<BFloat16>(10);
  expect_same_bits_with_either_tile<float>(20);
  expect_same_bits_with_either_tile<double>(10);
}

/// Σ do·o, whose gradients all of them are.
double loss(const RandomAttention<double>& data) {
  const Forward<double> forward(data);
  double sum = 0;
  for (std::int64_t i = 0; i < forward.o.shape().elements(); ++i)
    sum += forward.o.data()[i] * data.d_o.own.data()[i];
  return sum;
}

TEST(AttentionBackward, IsTheSlopeOfTheForwardPass) {
  Random random(10);
  for (int trial = 0; trial < trials(25); ++trial) {
    Problem problem = random_problem(random, 120);
    problem.magnitude = 1;
    RandomAttention<double> data(problem, random);
    for_each_target<double>([&] {
      Random draws = random;  // the same for each target
      const Gradients<double> got = backward(data, Forward<double>(data));
      const auto check = [&](Tensor<double>& input, const Tensor<double>& gradient, const char* name) {
        for (int sample = 0; sample < 4 && input.shape().elements() > 0; ++sample) {
          const std::int64_t at = draws.upto(0, input.shape().elements() - 1);
          constexpr double kStep = 1e-5;
          const double before = input.data()[at];
          input.data()[at] = before + kStep;
          const double above = loss(data);
          input.data()[at] = before - kStep;
          const double below = loss(data);
          input.data()[at] = before;
          EXPECT_NEAR(gradient.data()[at], (above - below) / (2 * kStep), 1e-7)
              << name << ", trial " << trial;
        }
      };
      check(data.q.own, got.dq, "dq");
      check(data.k.own, got.dk, "dk");
      check(data.v.own, got.dv, "dv");
      if (problem.bias_reach >= 0) check(data.table.own, got.d_table, "table");
      if (problem.distances == 0) return;
      check(data.content_bias.own, got.d_content_bias, "u");
      check(data.position_bias.own, got.d_position_bias, "v");
      check(data.r.own, got.d_r, "r");
    });
  }
}

/// Whole parts of exponents are taken off in one addition to 1.5·2^23 (2^52), which holds only so many.
/// Scores of that size are a quarter apart, and so weights known to a fifth.
template <class T>
void expect_one_key_takes_all(double magnitude) {
  Random random(15);
  RandomAttention<T> data({.pattern = {.kind = PatternKind::full, .causal = true, .seq_len = 300},
                           .queries = {1, 1, 300, 64},
                           .keys = {1, 1, 300, 64},
                           .magnitude = magnitude},
                          random);
  data.differentiate();
  for_each_target<T>([&] {
    const Gradients<Accumulator<T>> got = backward(data, Forward<T>(data));
    EXPECT_LT(relative_error(got.dv, data.dv), 0.75);
    for (const Accumulator<T> value : got.all()) EXPECT_TRUE(std::isfinite(value));
  });
}
TEST(AttentionBackward, OfScoresBeyondEveryWholeNumberGivesTheLargestOneAll) {
  expect_one_key_takes_all<float>(1.2e3);
  expect_one_key_takes_all<BFloat16>(1.2e3);
  expect_one_key_takes_all<double>(3e7);
}

/// maths.md's bound.
void expect_within_bound(const RandomAttention<float>& data, const Gradients<float>& got) {
  EXPECT_LT(relative_error(got.dq, data.dq), 1e-5);
  EXPECT_LT(relative_error(got.dk, data.dk), 1e-5);
  EXPECT_LT(relative_error(got.dv, data.dv), 1e-5);
}

TEST(AttentionBackwardErrors, StayWithinTheBoundOfMathsMd) {
  const std::int64_t s = 2000;
  Random random(11);
  RandomAttention<float> data({.pattern = {.kind = PatternKind::full, .causal = true, .seq_len = s},
                               .queries = {1, 1, s, 64},
                               .keys = {1, 1, s, 64}},
                              random);
  data.differentiate();
  expect_within_bound(data, backward(data, Forward<float>(data)));
}

/// More rows than are summed at once: the gradients of keys are given part by part.
TEST(AttentionBackwardErrors, StayThereWhereSumsAreLong) {
  const std::int64_t s = 2100;  // of four heads that share a key head
  Random random(16);
  for (int trial = 0; trial < trials(2); ++trial) {
    RandomAttention<float> data({.pattern = {.kind = PatternKind::full, .causal = trial == 0, .seq_len = s},
                                 .queries = {1, 4, s, 8},
                                 .keys = {1, 1, s, 8}},
                                random);
    data.differentiate();
    for_each_target<float>([&] {
      const Forward<float> forward(data);
      std::vector<float> first;
      for (const int threads : {1, 24}) {
        const Gradients<float> got = with_threads(threads, [&] { return backward(data, forward); });
        expect_within_bound(data, got);
        if (first.empty()) first = got.all();
        EXPECT_TRUE(first == got.all()) << threads << " threads";
      }
    });
  }
}

TEST(AttentionBackwardErrors, UnequallySpacedTokensAreRefusedWithRelativeKeys) {
  Random random(12);
  const RandomAttention<float> data({.pattern = {.kind = PatternKind::full, .seq_len = 8},
                                     .queries = {1, 1, 8, 4},
                                     .keys = {1, 1, 8, 4},
                                     .distances = 3},
                                    random);
  Gradients<float> got(data);
  const Forward<float> forward(data);
  const GradientQueries<float> queries{data.q.view(),      data.d_o.view(), forward.lse.view(),
                                       forward.lse.view(), {0, 1, 8},       got.dq.view()};
  const GradientKeys<float> keys{data.k.view(), data.v.view(), {0, 2, 8}, got.dk.view(), got.dv.view(), {0}};
  EXPECT_THROW(
      attend_backward<float>(data.problem.pattern, data.terms(), std::span(&queries, 1), std::span(&keys, 1)),
      std::invalid_argument);
}

}  // namespace
}  // namespace longseq
