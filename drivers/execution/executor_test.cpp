// Every pattern × strategy × layout across real ranks, against the f64 reference on the whole sequence.
#include "drivers/execution/executor.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "drivers/sharding/audit.h"
#include "drivers/sharding/planner.h"
#include "drivers/sharding/random_problem.h"
#include "kernels/attention_reference.h"

namespace longseq {
namespace {

struct World {
  int rank = 0;
  int ranks = 1;
};

World world() {
  World result;
  MPI_Comm_rank(MPI_COMM_WORLD, &result.rank);
  MPI_Comm_size(MPI_COMM_WORLD, &result.ranks);
  return result;
}

Problem world_problem(Random& random, int ranks) {
  Problem p;
  p.pattern = random_pattern(random, random.upto(0, 3) == 0 ? random.upto(1, 7) : random.upto(1, 150));
  p.layout = {LayoutKind::contiguous, p.pattern.seq_len, ranks};
  p.kv_heads = random.upto(1, 3);
  p.heads = p.kv_heads * random.upto(1, 3);
  p.batch = random.upto(1, 2);
  constexpr std::int64_t kDims[] = {8, 16, 40, 64};
  p.head_dim = kDims[random.upto(0, 3)];
  p.ulysses_degree = static_cast<int>(random.upto(0, ranks));
  if (p.ulysses_degree > 0 && ranks % p.ulysses_degree != 0) p.ulysses_degree = 0;
  return p;
}

/// The whole problem's tensors in f64, the same on every rank, and its reference results.
struct Whole {
  Tensor<double> q, k, v, d_o, o, lse, dq, dk, dv;
  std::vector<double> table;
  std::int64_t reach;

  /// `bf16`: all inputs are representable in bf16, else in f32.
  Whole(const Problem& p, bool bf16, Random& random)
      : q({p.batch, p.heads, p.pattern.seq_len, p.head_dim}),
        k({p.batch, p.kv_heads, p.pattern.seq_len, p.head_dim}),
        v(k.shape()),
        d_o(q.shape()),
        o(q.shape()),
        lse({p.batch, p.heads, p.pattern.seq_len, 1}),
        dq(q.shape()),
        dk(k.shape()),
        dv(k.shape()),
        reach(random.upto(-1, 20)) {
    const auto number = [&] {
      const auto value = static_cast<float>(random.normal());
      return bf16 ? static_cast<double>(BFloat16(value)) : static_cast<double>(value);
    };
    for (Tensor<double>* tensor : {&q, &k, &v, &d_o})
      std::generate_n(tensor->data(), tensor->shape().elements(), number);
    if (reach >= 0) {
      table.resize(static_cast<std::size_t>(p.heads * (2 * reach + 1)));
      std::generate(table.begin(), table.end(), number);
    }
    const auto sees = [&](std::int64_t i, std::int64_t j) {
      const VisibleKeys keys = p.pattern.visible_keys(i);
      return keys.first.contains(j) || keys.second.contains(j);
    };
    const auto of_table = [&](std::int64_t, std::int64_t h, std::int64_t i, std::int64_t j) {
      return table[static_cast<std::size_t>(h * (2 * reach + 1) + reach + std::clamp(i - j, -reach, reach))];
    };
    const ScoreBias bias = reach >= 0 ? ScoreBias(of_table) : ScoreBias();
    attention_reference(sees, bias, q.view(), k.view(), v.view(), o.view(), lse.view());
    attention_gradient_reference(sees, bias, q.view(), k.view(), v.view(), d_o.view(), dq.view(), dk.view(),
                                 dv.view());
  }
};

template <class T>
void take_shard(const Shard& shard, TensorView<const double> whole, TensorView<T> part) {
  for (std::int64_t b = 0; b < whole.shape.batch; ++b) {
    for (std::int64_t h = 0; h < whole.shape.heads; ++h) {
      std::int64_t row = 0;
      for (const longseq::Run& run : shard) {
        for (std::int64_t t = 0; t < run.count; ++t, ++row) {
          std::transform(whole.row(b, h, run.at(t)), whole.row(b, h, run.at(t)) + whole.shape.head_dim,
                         part.row(b, h, row), [](double value) {
                           if constexpr (std::is_same_v<T, BFloat16>) {
                             return BFloat16(static_cast<float>(value));
                           } else {
                             return static_cast<T>(value);
                           }
                         });
        }
      }
    }
  }
}

/// This rank's tensors of one problem.
template <class T>
struct Own {
  using A = Accumulator<T>;
  Tensor<T> q, keys, d_o, o;
  Tensor<A> lse, dq, d_keys;

  Own(const Problem& problem, const Shard& shard, const Whole& whole)
      : q({problem.batch, problem.heads, tokens_in(shard), problem.head_dim}),
        keys({2 * problem.batch, problem.kv_heads, tokens_in(shard), problem.head_dim}),
        d_o(q.shape()),
        o(q.shape()),
        lse({problem.batch, problem.heads, tokens_in(shard), 1}),
        dq(q.shape()),
        d_keys(keys.shape()) {
    take_shard<T>(shard, whole.q.view(), q.view());
    take_shard<T>(shard, whole.k.view(), first_half(keys.view()));
    take_shard<T>(shard, whole.v.view(), second_half(keys.view()));
    take_shard<T>(shard, whole.d_o.view(), d_o.view());
  }
  ShardTensors<T> views() {
    return {std::as_const(q).view(),
            std::as_const(keys).view(),
            o.view(),
            lse.view(),
            std::as_const(d_o).view(),
            dq.view(),
            d_keys.view()};
  }
};

/// Runs the problem's pass twice (messages are started again), the second time from results that mean
/// nothing, and holds the counted traffic against the plan's.
template <class T>
void run_twice(const Problem& problem, const PlannerRow& strategy, const DistanceBias<Accumulator<T>>& bias,
               bool overlap, Own<T>& own) {
  const World w = world();
  RankPlan plan = strategy.plan(problem, w.rank);
  const RankAudit planned = audit(problem, plan);
  Executor<T> executor(MPI_COMM_WORLD, problem, std::move(plan), bias, own.views());
  executor.run(overlap);
  const auto spoil = [](auto& tensor, auto value) {
    std::fill_n(tensor.data(), tensor.shape().elements(), value);
  };
  if (problem.pass == Pass::forward) {
    spoil(own.o, T(std::numeric_limits<float>::quiet_NaN()));
  } else {
    spoil(own.dq, std::numeric_limits<Accumulator<T>>::quiet_NaN());
    spoil(own.d_keys, std::numeric_limits<Accumulator<T>>::quiet_NaN());
  }
  executor.run(overlap);
  for (int peer = 0; peer < w.ranks; ++peer) {
    const auto index = static_cast<std::size_t>(peer);
    EXPECT_EQ(executor.traffic().bytes_to[index], 2 * planned.bytes_to[index]) << strategy.name;
    EXPECT_EQ(executor.traffic().messages_to[index], 2 * planned.messages_to[index]) << strategy.name;
  }
  std::int64_t difference = 2 * planned.bytes_sent() - executor.traffic().bytes_received;
  MPI_Allreduce(MPI_IN_PLACE, &difference, 1, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
  EXPECT_EQ(difference, 0) << "bytes sent and received differ: " << strategy.name;
}

/// Relative Frobenius error over all ranks; gradients, which cancel, beside numbers of about `size`.
template <class T>
double error_of(TensorView<const T> got, const Shard& shard, TensorView<const double> whole,
                double size = 0) {
  Tensor<double> expected(got.shape);
  take_shard<double>(shard, whole, expected.view());
  double sums[3] = {0, 0, static_cast<double>(got.shape.elements())};
  for (std::int64_t b = 0; b < got.shape.batch; ++b) {
    for (std::int64_t h = 0; h < got.shape.heads; ++h) {
      for (std::int64_t t = 0; t < got.shape.tokens; ++t) {
        for (std::int64_t d = 0; d < got.shape.head_dim; ++d) {
          const double value = static_cast<double>(got.row(b, h, t)[d]),
                       exact = expected.view().row(b, h, t)[d];
          if (std::isinf(exact) && value == exact) continue;
          sums[0] += std::pow(value - exact, 2);
          sums[1] += exact * exact;
        }
      }
    }
  }
  MPI_Allreduce(MPI_IN_PLACE, sums, 3, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
  return std::sqrt(sums[0] / (sums[1] + size * size * sums[2]));
}

struct Bounds {
  double output, lse, gradient;
};

template <class T>
void expect_right(Problem problem, const PlannerRow& strategy, const Whole& whole, bool overlap,
                  const Bounds& bounds, const std::string& what) {
  using A = Accumulator<T>;
  problem.element_bytes = sizeof(T);
  problem.accumulator_bytes = sizeof(A);
  const Shard shard = problem.layout.shard(world().rank);
  const std::vector<A> table(whole.table.begin(), whole.table.end());
  const DistanceBias<A> bias{table.empty() ? nullptr : table.data(), std::max<std::int64_t>(whole.reach, 0)};
  Own<T> own(problem, shard, whole);
  problem.pass = Pass::forward;
  run_twice<T>(problem, strategy, bias, overlap, own);
  EXPECT_LT(error_of<T>(own.o.view(), shard, whole.o.view()), bounds.output) << what;
  EXPECT_LT(error_of<A>(own.lse.view(), shard, whole.lse.view(), 1.0), bounds.lse) << what;
  problem.pass = Pass::backward;
  run_twice<T>(problem, strategy, bias, overlap, own);
  EXPECT_LT(error_of<A>(own.dq.view(), shard, whole.dq.view(), 1.0), bounds.gradient) << what << " dq";
  EXPECT_LT(error_of<A>(first_half(own.d_keys.view()), shard, whole.dk.view(), 1.0), bounds.gradient)
      << what << " dk";
  EXPECT_LT(error_of<A>(second_half(own.d_keys.view()), shard, whole.dv.view(), 1.0), bounds.gradient)
      << what << " dv";
}

TEST(Executor, OfEveryPatternStrategyAndLayoutMatchesTheReferenceForwardAndBackward) {
  const World w = world();
  Random random(7);
  for (int trial = 0; trial < 40; ++trial) {
    Problem problem = world_problem(random, w.ranks);
    const Whole whole(problem, trial % 2 == 0, random);
    for (const LayoutRow& layout : kLayouts) {
      problem.layout.kind = layout.kind;
      for (const PlannerRow& strategy : kPlanners) {
        const std::string what = fmt::format(
            "trial {} {} {} kind {} causal {} S {} P {} H {}/{} degree {}", trial, strategy.name, layout.name,
            static_cast<int>(problem.pattern.kind), problem.pattern.causal, problem.pattern.seq_len, w.ranks,
            problem.heads, problem.kv_heads, problem.ulysses_degree);
        const bool overlap = trial % 4 != 0;
        expect_right<float>(problem, strategy, whole, overlap, {2e-6, 2e-6, 4e-6}, what);
        expect_right<double>(problem, strategy, whole, overlap, {4e-15, 4e-15, 8e-15}, what);
        if (trial % 2 == 0)
          expect_right<BFloat16>(problem, strategy, whole, overlap, {1e-2, 1e-5, 1e-2}, what);
      }
    }
  }
}

/// The same plan gives the same bits, however messages and threads happen to meet.
TEST(Executor, GivesTheSameBitsEveryTime) {
  const World w = world();
  Random random(8);
  Problem problem = world_problem(random, w.ranks);
  problem.pattern = {.kind = PatternKind::full, .causal = true, .seq_len = 300};
  problem.layout = {LayoutKind::zigzag, 300, w.ranks};
  const Whole whole(problem, false, random);
  const Shard shard = problem.layout.shard(w.rank);
  for (const PlannerRow& strategy : kPlanners) {
    std::vector<float> first;
    for (int time = 0; time < 3; ++time) {
      Own<float> own(problem, shard, whole);
      for (const Pass pass : {Pass::forward, Pass::backward}) {
        problem.pass = pass;
        run_twice<float>(problem, strategy, {}, time != 1, own);
      }
      std::vector<float> now(own.o.data(), own.o.data() + own.o.shape().elements());
      now.insert(now.end(), own.dq.data(), own.dq.data() + own.dq.shape().elements());
      now.insert(now.end(), own.d_keys.data(), own.d_keys.data() + own.d_keys.shape().elements());
      if (first.empty()) first = now;
      EXPECT_EQ(first, now) << strategy.name;
    }
  }
}

TEST(Executor, SendsRowsBeyondTwoToTheThirtyOneBytesAsOneItem) {
  // The datatype alone: 2^20 rows of 4 KiB in two planes of three are 8 GiB, counted in rows.
  const Datatype type = rows_of_planes({{0, 1 << 20}}, {1, 3, {1, 3}, 1 << 20, 4096});
  EXPECT_EQ(payload_bytes(type.get()), std::int64_t{2} << 32);
}

}  // namespace
}  // namespace longseq
