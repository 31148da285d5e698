// The judge is judged: right outputs pass, one wrong number anywhere is seen, on any number of ranks.
#include <gtest/gtest.h>

#include <limits>

#include "datasets/synthetic.h"
#include "kernels/attention_reference.h"
#include "suite/verify_gradients.h"

namespace longseq {
namespace {

constexpr std::int64_t kTokens = 61;
const Shape kQueries{1, 4, kTokens, 8};
const Shape kKeys{1, 2, kTokens, 8};

/// The whole problem on every rank; this rank's shard are its tokens [begin, end).
struct Problem {
  Pattern pattern{
      .kind = PatternKind::global, .causal = true, .seq_len = kTokens, .window_left = 9, .global_tokens = 3};
  Tensor<double> q{kQueries}, k{kKeys}, v{kKeys}, o{kQueries}, lse{{1, 4, kTokens, 1}};
  Tensor<double> d_o{kQueries}, dq{kQueries}, dk{kKeys}, dv{kKeys};
  Interval own;

  Problem() {
    const longseq::Run everything{0, 1, kTokens};
    fill_normal(q.view(), everything, 1, TensorId::q);
    fill_normal(k.view(), everything, 1, TensorId::k);
    fill_normal(v.view(), everything, 1, TensorId::v);
    const auto sees = [](std::int64_t i, std::int64_t j) { return j <= i && (j >= i - 9 || j < 3); };
    attention_reference(sees, {}, q.view(), k.view(), v.view(), o.view(), lse.view());
    fill_normal(d_o.view(), everything, 1, TensorId::output_gradient);
    attention_gradient_reference(sees, {}, q.view(), k.view(), v.view(), d_o.view(), dq.view(), dk.view(),
                                 dv.view());
    int rank = 0, ranks = 1;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    own = {kTokens * rank / ranks, kTokens * (rank + 1) / ranks};
  }

  TensorView<const double> part(Tensor<double>& tensor) const { return tensor.view().tokens(own); }
  ShardOutput<double> output() {
    return {{{own.begin, 1, own.size()}}, part(q), part(k), part(v), part(o), part(lse)};
  }
  Errors judge() { return recompute<double>(MPI_COMM_WORLD, pattern, {}, output()); }
  GradientErrors judge_gradients() {
    return recompute_gradients<double>(MPI_COMM_WORLD, pattern, {}, output(),
                                       {part(d_o), part(dq), part(dk), part(dv)});
  }
};

TEST(Verify, FindsARightOutputRight) {
  const Errors errors = Problem().judge();
  EXPECT_EQ(errors.rows, kTokens);  // a small problem is recomputed whole
  EXPECT_LT(errors.output, 1e-14);
  EXPECT_LT(errors.lse, 1e-14);
  EXPECT_TRUE(errors.finite);
  EXPECT_GT(errors.largest_score, 1.0);
}

TEST(Verify, SeesOneWrongOutputOnAnyRank) {
  for (const std::int64_t token : {std::int64_t{0}, kTokens / 2, kTokens - 1}) {
    Problem problem;
    problem.o.view().row(0, 2, token)[3] += 1e-3;
    EXPECT_GT(problem.judge().output, 1e-6) << token;
  }
}

TEST(Verify, SeesOneWrongLse) {
  Problem problem;
  *problem.lse.view().row(0, 1, kTokens - 1) += 1e-3;
  EXPECT_GT(problem.judge().lse, 1e-5);
}

TEST(Verify, SeesAnOutputThatIsNotFinite) {
  Problem problem;
  problem.o.view().row(0, 0, kTokens - 1)[0] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_FALSE(problem.judge().finite);
}

TEST(Verify, SeesAnotherPattern) {
  Problem problem;
  problem.pattern.window_left = 8;
  EXPECT_GT(problem.judge().output, 1e-3);
}

TEST(VerifyGradients, FindsRightOnesRight) {
  const GradientErrors errors = Problem().judge_gradients();
  EXPECT_LT(errors.dq, 1e-13);
  EXPECT_LT(errors.dk, 1e-13);
  EXPECT_LT(errors.dv, 1e-13);
  EXPECT_TRUE(errors.finite);
}

TEST(VerifyGradients, SeesOneWrongNumberOnAnyRank) {
  for (const std::int64_t token : {std::int64_t{0}, kTokens / 2, kTokens - 1}) {
    Problem problem;
    problem.dq.view().row(0, 3, token)[1] += 1e-3;
    EXPECT_GT(problem.judge_gradients().dq, 1e-6) << token;
    problem.dk.view().row(0, 1, token)[7] += 1e-3;
    EXPECT_GT(problem.judge_gradients().dk, 1e-6) << token;
    problem.dv.view().row(0, 0, token)[0] += 1e-3;
    EXPECT_GT(problem.judge_gradients().dv, 1e-6) << token;
    problem.dk.view().row(0, 0, token)[0] = std::numeric_limits<double>::infinity();
    EXPECT_FALSE(problem.judge_gradients().finite);
  }
}

TEST(ErrorBound, StaysWithinMathsMdForOrdinaryScores) {
  EXPECT_LT(error_bounds<float>(256, 65536, 5).output, 3e-6);
  EXPECT_GT(error_bounds<float>(16, 64, 5).output, 1e-6);
  EXPECT_LT(error_bounds<float>(64, 65536, 5).gradient, 1e-5);
  EXPECT_NEAR(error_bounds<float>(64, 4096, 80).lse / error_bounds<float>(64, 4096, 8).lse, 10, 1e-9);
  EXPECT_LT(error_bounds<BFloat16>(256, 65536, 5).gradient, 1e-2);
}

}  // namespace
}  // namespace longseq
