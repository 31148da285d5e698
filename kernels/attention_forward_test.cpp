// The forward engine against the f64 reference: random shapes, patterns, position terms, layouts of rows,
// magnitudes and types, for each instruction set that this machine has.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "kernels/each_target.h"
#include "kernels/random_attention.h"
#include "kernels/simd.h"
#include "kernels/with_threads.h"

namespace longseq {
namespace {

/// The bound of o's error: of a score's rounding, and of storing o.
template <class T>
double bound(const RandomAttention<T>& attention) {
  return attention.rounding() + (std::is_same_v<T, BFloat16> ? 0x1p-8 : 0.0);
}

template <class T>
void expect_one_call_is_right(int usual) {
  Random random(20261123);
  for (int trial = 0; trial < trials(usual); ++trial) {
    const RandomAttention<T> data(random_problem(random, 400), random);
    for_each_target<T>([&] {
      Tensor<T> o(data.o.shape());
      Tensor<Accumulator<T>> lse(data.lse.shape());
      attention_forward<T>(data.problem.pattern, data.terms(), data.inputs(), o.view(), lse.view());
      EXPECT_LT(relative_error(o, data.o), bound(data))
          << "trial " << trial << " D " << data.problem.queries.head_dim << " magnitude "
          << data.problem.magnitude;
      EXPECT_LT(data.lse_error(lse), data.rounding()) << "trial " << trial;
    });
  }
}
TEST(AttentionForward, OfAnyPatternAndShapeMatchesTheReferenceInF32) {
  expect_one_call_is_right<float>(120);
}
TEST(AttentionForward, OfAnyPatternAndShapeMatchesTheReferenceInF64) {
  expect_one_call_is_right<double>(60);
}
TEST(AttentionForward, OfAnyPatternAndShapeMatchesTheReferenceInBf16) {
  expect_one_call_is_right<BFloat16>(60);
}

template <class T>
void expect_blocks_are_right(int usual) {
  using A = Accumulator<T>;
  Random random(7);
  for (int trial = 0; trial < trials(usual); ++trial) {
    const RandomAttention<T> data(random_problem(random, 400), random);
    const std::int64_t s = data.problem.pattern.seq_len;
    const std::int64_t stripes = std::min<std::int64_t>(s, random.upto(1, 5));
    for_each_target<T>([&] {
      Tensor<A> sums(data.o.shape()), maximum(data.lse.shape()), sum(data.lse.shape()), lse(data.lse.shape());
      Tensor<T> o(data.o.shape());
      const AttentionState<A> state{sums.view(), maximum.view(), sum.view()};
      begin_attention(state);
      std::fill_n(sums.data(), sums.shape().elements(), std::numeric_limits<A>::quiet_NaN());
      for (std::int64_t step = 0; step < stripes; ++step) {
        std::vector<QueryBlock<T>> blocks;
        for (std::int64_t r = 0; r < stripes; ++r) {
          const std::int64_t source = (r + step + 1) % stripes;  // rows may see nothing at first
          const auto own = [&](auto view) { return stripe(view, r, stripes); };
          const KeyBlock<T> keys{stripe(data.k.view(), source, stripes),
                                 stripe(data.v.view(), source, stripes),
                                 stripe_positions(s, source, stripes)};
          blocks.push_back({own(data.q.view()),
                            stripe_positions(s, r, stripes),
                            {own(state.o), own(state.maximum), own(state.sum)},
                            {keys}});
          if (step + 1 == stripes && r % 2 == 1) blocks.back().result = {own(o.view()), own(lse.view())};
        }
        attend<T>(data.problem.pattern, data.terms(), blocks);
      }
      for (std::int64_t r = 0; r < stripes; r += 2) {  // the others have their results
        const auto own = [&](auto view) { return stripe(view, r, stripes); };
        finish_attention<T>({own(state.o), own(state.maximum), own(state.sum)}, own(o.view()),
                            own(lse.view()));
      }
      EXPECT_LT(relative_error(o, data.o), bound(data)) << trial;
      EXPECT_LT(data.lse_error(lse), data.rounding()) << trial;
    });
  }
}
TEST(AttentionForward, TakesKeysBlockByBlockAndRowsInStripesInF32) {
  expect_blocks_are_right<float>(60);
}
TEST(AttentionForward, TakesKeysBlockByBlockAndRowsInStripesInBf16) {
  expect_blocks_are_right<BFloat16>(30);
}

/// o and lse as one, from so many threads: few of them make tasks of many tiles, which may be taken two at
/// once.
template <class T>
std::vector<Accumulator<T>> answers(const RandomAttention<T>& data, int threads) {
  Tensor<T> o(data.o.shape());
  Tensor<Accumulator<T>> lse(data.lse.shape());
  with_threads(threads, [&] {
    attention_forward<T>(data.problem.pattern, data.terms(), data.inputs(), o.view(), lse.view());
  });
  std::vector<Accumulator<T>> all(lse.data(), lse.data() + lse.shape().elements());
  for (std::int64_t i = 0; i < o.shape().elements(); ++i)
    all.push_back(static_cast<Accumulator<T>>(o.data()[i]));
  return all;
}

/// Whatever tiles share a task, and however its sums lie in registers.
template <class T>
void expect_right_and_same_bits(const RandomAttention<T>& data) {
  for_each_target<T>([&] {
    const auto what = [&data] {
      return testing::Message() << data.problem.queries.tokens << " queries, " << data.problem.pattern.seq_len
                                << " tokens, window " << data.problem.pattern.window_left;
    };
    std::vector<Accumulator<T>> first;
    for_each_register_tile([&] {
      for (const int threads : {1, 2, 5}) {
        const std::vector<Accumulator<T>> now = answers(data, threads);
        if (first.empty()) first = now;
        EXPECT_EQ(first, now) << threads << " threads, " << what();
      }
    });
    Tensor<Accumulator<T>> lse(data.lse.shape()), o(data.o.shape());
    std::copy_n(first.begin(), lse.shape().elements(), lse.data());
    std::copy_n(first.end() - o.shape().elements(), o.shape().elements(), o.data());
    EXPECT_LT(relative_error(o, data.o), bound(data)) << what();
    EXPECT_LT(data.lse_error(lse), data.rounding()) << what();
  });
}

/// The reference is asked, too: random problems hardly ever make tasks of more than two tiles.
template <class T>
void expect_same_bits(std::int64_t head_dim) {
  const auto local = [](std::int64_t window) {
    return Pattern{.kind = PatternKind::local, .causal = true, .seq_len = 1024, .window_left = window};
  };
  const Pattern global{
      .kind = PatternKind::global, .causal = true, .seq_len = 700, .window_left = 60, .global_tokens = 5};
  const Pattern full{.kind = PatternKind::full, .seq_len = 690};
  Random random(3);
  for (const Pattern& pattern : {full, global, local(17), local(100), local(1024)}) {
    const std::int64_t s = pattern.seq_len, heads = pattern.kind == PatternKind::local ? 2 : 4;
    const RandomAttention<T> data(
        {.pattern = pattern, .queries = {1, heads, s, head_dim}, .keys = {1, 1, s, head_dim}}, random);
    expect_right_and_same_bits(data);
  }
}
TEST(AttentionForward, IsTheSameBitForBitForAnyNumberOfThreadsInF32) {
  expect_same_bits<float>(20);   // a multiple of four only
  expect_same_bits<float>(148);  // so wide that of 512 keys a query tasks have eight tiles
}
TEST(AttentionForward, IsTheSameBitForBitForAnyNumberOfThreadsInF64) {
  expect_same_bits<double>(80);
}
TEST(AttentionForward, IsTheSameBitForBitForAnyNumberOfThreadsInBf16) {
  expect_same_bits<BFloat16>(64);
}

template <class T>
void expect_same_bits_with_either_tile(int usual) {
  Random random(12);
  for (int trial = 0; trial < trials(usual); ++trial) {
    Problem problem = random_problem(random, 500);
    if (trial % 2 == 0) {  // plain scores: tiles are taken two at once
      problem.bias_reach = -1;
      problem.distances = 0;
    }
    const RandomAttention<T> data(problem, random);
    for_each_target<T>([&] {
      std::vector<T> first;
      for_each_register_tile([&] {
        const std::vector<T> now = answers(data, 1);
        if (first.empty()) first = now;
        EXPECT_EQ(first, now) << trial;
      });
    });
  }
}
TEST(AttentionForward, IsTheSameBitForBitForEitherRegisterTile) {
  expect_same_bits_with_either_tile<float>(12);
  expect_same_bits_with_either_tile<double>(6);
}

/// So many keys that sums are put aside twice, and so much larger ones after them that what was must decay:
/// of tiles that share tasks, side by side or with one that begins a piece later, and with terms.
template <class T>
void expect_long_sums_are_right() {
  const std::int64_t s = 7000;
  const Pattern full{.kind = PatternKind::full, .seq_len = s};
  const Pattern documents{.kind = PatternKind::document, .seq_len = s, .document_starts = {0, 400}};
  const Problem plain{.pattern = full, .queries = {1, 2, 264, 16}, .keys = {1, 1, s, 16}, .growth = 4};
  Problem two = plain, with_terms = plain;
  two.pattern = documents;
  two.queries = {1, 1, 528, 16};
  with_terms.queries.tokens = 40;
  with_terms.bias_reach = 20;
  with_terms.distances = 64;
  Random random(15);
  for (const Problem& problem : {plain, two, with_terms}) {
    const RandomAttention<T> data(problem, random);
    expect_right_and_same_bits(data);
  }
}
TEST(AttentionForward, OfThousandsOfGrowingKeysIsRightInF32) {
  expect_long_sums_are_right<float>();
}
TEST(AttentionForward, OfThousandsOfGrowingKeysIsRightInF64) {
  expect_long_sums_are_right<double>();
}
TEST(AttentionForward, OfThousandsOfGrowingKeysIsRightInBf16) {
  expect_long_sums_are_right<BFloat16>();
}

TEST(AttentionForward, OfScoresOfAThousandStaysFinite) {
  Random random(4);
  const RandomAttention<float> data({.pattern = {.kind = PatternKind::full, .causal = true, .seq_len = 300},
                                     .queries = {1, 1, 300, 64},
                                     .keys = {1, 1, 300, 64},
                                     .magnitude = 20},
                                    random);
  for_each_target<float>([&] {
    Tensor<float> o(data.o.shape()), lse(data.lse.shape());
    attention_forward<float>(data.problem.pattern, {}, data.inputs(), o.view(), lse.view());
    EXPECT_LT(relative_error(o, data.o), 3e-6);
    EXPECT_LT(data.lse_error(lse), 1e-6);
  });
}

/// Whole parts of exponents are taken off in one addition to 1.5·2^23 (2^52), which holds only so many.
template <class T>
void expect_one_key_takes_all(double magnitude) {
  Random random(14);
  const RandomAttention<T> data({.pattern = {.kind = PatternKind::full, .causal = true, .seq_len = 300},
                                 .queries = {1, 1, 300, 64},
                                 .keys = {1, 1, 300, 64},
                                 .magnitude = magnitude},
                                random);
  for_each_target<T>([&] {
    Tensor<T> o(data.o.shape());
    Tensor<Accumulator<T>> lse(data.lse.shape());
    attention_forward<T>(data.problem.pattern, {}, data.inputs(), o.view(), lse.view());
    EXPECT_LT(relative_error(o, data.o), sizeof(T) == 2 ? 4e-3 : 1e-6);
    EXPECT_LT(data.lse_error(lse), 1e-6);
  });
}
TEST(AttentionForward, OfScoresBeyondEveryWholeNumberIsTheLargestOnesValue) {
  expect_one_key_takes_all<float>(2e3);
  expect_one_key_takes_all<BFloat16>(2e3);
  expect_one_key_takes_all<double>(6e7);
}

TEST(AttentionForward, OfANanIsANanWhereItIsSeenAndNowhereElse) {
  Random random(5);
  RandomAttention<float> data(
      {.pattern = {.kind = PatternKind::local, .causal = true, .seq_len = 200, .window_left = 9},
       .queries = {1, 1, 200, 16},
       .keys = {1, 1, 200, 16}},
      random);
  data.k.own.view().row(0, 0, 100)[3] = std::numeric_limits<float>::quiet_NaN();
  for_each_target<float>([&] {
    Tensor<float> o(data.o.shape()), lse(data.lse.shape());
    attention_forward<float>(data.problem.pattern, {}, data.inputs(), o.view(), lse.view());
    for (std::int64_t i = 0; i < 200; ++i)
      EXPECT_EQ(std::isnan(*o.view().row(0, 0, i)), i >= 100 && i <= 109) << i;
  });
}

TEST(AttentionForwardErrors, StayWithinTheBoundOfMathsMd) {
  const std::int64_t s = 3000;
  Random random(6);
  const RandomAttention<float> data(
      {.pattern = {.kind = PatternKind::full, .seq_len = s}, .queries = {1, 1, s, 64}, .keys = {1, 1, s, 64}},
      random);
  Tensor<float> o(data.o.shape()), lse(data.lse.shape());
  attention_forward<float>(data.problem.pattern, {}, data.inputs(), o.view(), lse.view());
  EXPECT_LT(relative_error(o, data.o), 3e-6);
}

/// Up to 64k, in one call or in many.
TEST(AttentionForwardErrors, HardlyGrowWithTheNumberOfKeys) {
  const std::int64_t queries = 33, few = 1024, many = 64 * few;
  Random random(13);
  double error_of_few = 1e-6 / 1.35;
  for (const std::int64_t s : {few, many}) {
    const RandomAttention<float> data({.pattern = {.kind = PatternKind::full, .seq_len = s},
                                       .queries = {1, 1, queries, 64},
                                       .keys = {1, 1, s, 64}},
                                      random);
    Tensor<float> o(data.o.shape()), lse(data.lse.shape());
    const auto expect_small = [&](const char* how) {
      EXPECT_LT(relative_error(o, data.o), 1.35 * error_of_few) << s << " keys, " << how;
      EXPECT_LT(data.lse_error(lse), 1.2e-7) << s << " keys, " << how;
    };
    attention_forward<float>(data.problem.pattern, {}, data.inputs(), o.view(), lse.view());
    expect_small("in one call");
    if (s == few) error_of_few = relative_error(o, data.o);
    for (const std::int64_t at_once : {few, 8 * few}) {
      Tensor<float> maximum(data.lse.shape()), sum(data.lse.shape());
      const AttentionState<float> state{o.view(), maximum.view(), sum.view()};
      begin_attention(state);
      for (std::int64_t key = 0; key < s; key += at_once) {
        const Interval own{key, std::min(key + at_once, s)};
        const KeyBlock<float> keys{
            data.k.view().tokens(own), data.v.view().tokens(own), {key, 1, own.size()}};
        attend<float>(data.problem.pattern, {},
                      std::vector{QueryBlock<float>{data.q.view(), {0, 1, queries}, state, {keys}}});
      }
      finish_attention<float>(state, o.view(), lse.view());
      expect_small("in many");
    }
  }
}

TEST(AttentionForwardErrors, HeadDimBeyondTheLimitIsRefused) {
  Tensor<float> wide({1, 1, 2, kMaxHeadDim + 1}), lse({1, 1, 2, 1});
  const Pattern pattern{.kind = PatternKind::full, .seq_len = 2};
  std::fill_n(wide.data(), wide.shape().elements(), 0.0f);
  const TensorView<const float> input = wide.view();
  EXPECT_THROW(attention_forward<float>(pattern, {}, {input, input, input}, wide.view(), lse.view()),
               std::invalid_argument);
}

TEST(AttentionForwardErrors, BlocksOfOtherHeadsAreRefused) {
  Tensor<float> one({1, 1, 2, 8}), two({1, 2, 2, 8}), lse({1, 2, 2, 1});
  const Pattern pattern{.kind = PatternKind::full, .seq_len = 2};
  const auto block = [&](Tensor<float>& q) {
    return QueryBlock<float>{std::as_const(q).view(), {0, 1, 2}, {}, {}, {q.view(), lse.view()}};
  };
  const std::vector<QueryBlock<float>> blocks{block(one), block(two)};
  EXPECT_THROW(attend<float>(pattern, {}, blocks), std::invalid_argument);
}

}  // namespace
}  // namespace longseq
