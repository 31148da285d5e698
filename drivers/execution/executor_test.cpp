// Every pattern × strategy × layout across real ranks, against the f64 reference on the whole sequence.
#include "drivers/execution/executor.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "drivers/sharding/audit.h"
#include "drivers/sharding/planner.h"
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

class Random {
 public:
  explicit Random(unsigned seed) : engine_(seed) {}
  std::int64_t upto(std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(engine_);
  }
  double normal() { return normal_(engine_); }

 private:
  std::mt19937 engine_;  // the same on all ranks
  std::normal_distribution<double> normal_;
};

Problem random_problem(Random& random, int ranks) {
  Problem p;
  Pattern& pattern = p.pattern;
  pattern.kind = kPatterns[static_cast<std::size_t>(random.upto(0, 4))].kind;
  pattern.causal = random.upto(0, 1) == 1;
  const std::int64_t s = random.upto(0, 3) == 0 ? random.upto(1, 7) : random.upto(1, 150);
  pattern.seq_len = s;
  pattern.window_left = random.upto(0, 60);
  pattern.window_right = random.upto(0, 60);
  pattern.global_tokens = random.upto(0, std::min<std::int64_t>(40, s));
  pattern.segment_length = random.upto(1, 50);
  pattern.memory_length = random.upto(0, 60);
  pattern.document_starts = {0};
  for (std::int64_t at = random.upto(1, 40); at < s; at += random.upto(1, 40))
    pattern.document_starts.push_back(at);
  p.layout = {LayoutKind::contiguous, s, ranks};
  p.kv_heads = random.upto(1, 2);
  p.heads = p.kv_heads * random.upto(1, 3);
  p.batch = random.upto(1, 2);
  constexpr std::int64_t kDims[] = {8, 16, 40, 64};
  p.head_dim = kDims[random.upto(0, 3)];
  return p;
}

/// The whole problem's tensors in f64, the same on every rank, and its reference output.
struct Whole {
  Tensor<double> q, k, v, o, lse;
  std::vector<double> table;
  std::int64_t reach;

  Whole(const Problem& p, Random& random)
      : q({p.batch, p.heads, p.pattern.seq_len, p.head_dim}),
        k({p.batch, p.kv_heads, p.pattern.seq_len, p.head_dim}),
        v(k.shape()),
        o(q.shape()),
        lse({p.batch, p.heads, p.pattern.seq_len, 1}),
        reach(random.upto(-1, 20)) {
    for (Tensor<double>* tensor : {&q, &k, &v}) {
      std::generate_n(tensor->data(), tensor->shape().elements(),
                      [&] { return static_cast<double>(static_cast<float>(random.normal())); });
    }
    if (reach >= 0) {
      table.resize(static_cast<std::size_t>(p.heads * (2 * reach + 1)));
      std::generate(table.begin(), table.end(),
                    [&] { return static_cast<double>(static_cast<float>(random.normal())); });
    }
    const auto sees = [&](std::int64_t i, std::int64_t j) {
      const VisibleKeys keys = p.pattern.visible_keys(i);
      return keys.first.contains(j) || keys.second.contains(j);
    };
    const ScoreBias bias = [&](std::int64_t, std::int64_t h, std::int64_t i, std::int64_t j) {
      return table[static_cast<std::size_t>(h * (2 * reach + 1) + reach + std::clamp(i - j, -reach, reach))];
    };
    attention_reference(sees, reach >= 0 ? bias : ScoreBias{}, q.view(), k.view(), v.view(), o.view(),
                        lse.view());
  }
};

template <class T>
void take_shard(const Shard& shard, TensorView<const double> whole, TensorView<T> part) {
  for (std::int64_t b = 0; b < whole.shape.batch; ++b) {
    for (std::int64_t h = 0; h < whole.shape.heads; ++h) {
      std::int64_t row = 0;
      for (const longseq::Run& run : shard) {
        for (std::int64_t t = 0; t < run.count; ++t, ++row) {
          std::copy_n(whole.row(b, h, run.at(t)), whole.shape.head_dim, part.row(b, h, row));
        }
      }
    }
  }
}

/// Runs the plan twice (messages are started again) and gives the error of the second pass over all ranks.
template <class T>
double error_of(const Problem& problem, const PlannerRow& strategy, const Whole& whole, bool overlap) {
  const World w = world();
  const Shard shard = problem.layout.shard(w.rank);
  const std::int64_t rows = tokens_in(shard);
  Tensor<T> q({problem.batch, problem.heads, rows, problem.head_dim}),
      keys({2 * problem.batch, problem.kv_heads, rows, problem.head_dim});
  Tensor<T> o(q.shape()), lse({problem.batch, problem.heads, rows, 1});
  Tensor<double> expected(q.shape()), expected_lse(lse.shape());
  TensorView<T> k = keys.view();
  k.shape.batch = problem.batch;
  TensorView<T> v = k;
  v.data += problem.batch * k.batch_stride;
  take_shard<T>(shard, whole.q.view(), q.view());
  take_shard<T>(shard, whole.k.view(), k);
  take_shard<T>(shard, whole.v.view(), v);
  take_shard<double>(shard, whole.o.view(), expected.view());
  take_shard<double>(shard, whole.lse.view(), expected_lse.view());
  const std::vector<T> table(whole.table.begin(), whole.table.end());
  const DistanceBias<T> bias{table.empty() ? nullptr : table.data(), std::max<std::int64_t>(whole.reach, 0)};

  RankPlan plan = strategy.plan(problem, w.rank);
  const RankAudit planned = audit(problem, plan);
  Executor<T> executor(MPI_COMM_WORLD, problem, std::move(plan), bias,
                       {q.view(), keys.view(), o.view(), lse.view()});
  executor.forward(overlap);
  std::fill_n(o.data(), o.shape().elements(), std::numeric_limits<T>::quiet_NaN());
  executor.forward(overlap);

  for (int peer = 0; peer < w.ranks; ++peer) {
    const auto index = static_cast<std::size_t>(peer);
    EXPECT_EQ(executor.traffic().bytes_to[index], 2 * planned.bytes_to[index]) << strategy.name;
    EXPECT_EQ(executor.traffic().messages_to[index], 2 * planned.messages_to[index]) << strategy.name;
  }
  double sums[3] = {0, 0, static_cast<double>(2 * planned.bytes_sent() - executor.traffic().bytes_received)};
  for (std::int64_t i = 0; i < o.shape().elements(); ++i) {
    sums[0] += std::pow(static_cast<double>(o.data()[i]) - expected.data()[i], 2);
    sums[1] += std::pow(expected.data()[i], 2);
  }
  double lse_error = 0;
  for (std::int64_t i = 0; i < lse.shape().elements(); ++i) {
    const double difference = std::abs(static_cast<double>(lse.data()[i]) - expected_lse.data()[i]);
    lse_error = std::isnan(difference)
                    ? INFINITY
                    : std::max(lse_error, difference / std::max(1.0, std::abs(expected_lse.data()[i])));
  }
  MPI_Allreduce(MPI_IN_PLACE, sums, 3, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
  MPI_Allreduce(MPI_IN_PLACE, &lse_error, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
  EXPECT_EQ(sums[2], 0.0) << "bytes sent and received differ";
  return std::max(std::sqrt(sums[0] / sums[1]), lse_error);
}

TEST(Executor, OfEveryPatternStrategyAndLayoutMatchesTheReference) {
  const World w = world();
  Random random(7);
  for (int trial = 0; trial < 40; ++trial) {
    Problem problem = random_problem(random, w.ranks);
    const Whole whole(problem, random);
    for (const LayoutRow& layout : kLayouts) {
      problem.layout.kind = layout.kind;
      for (const PlannerRow& strategy : kPlanners) {
        const std::string what = fmt::format(
            "trial {} {} {} kind {} causal {} S {} P {}", trial, strategy.name, layout.name,
            static_cast<int>(problem.pattern.kind), problem.pattern.causal, problem.pattern.seq_len, w.ranks);
        EXPECT_LT(error_of<float>(problem, strategy, whole, trial % 4 != 0), 2e-6) << what;
        Problem wide = problem;
        wide.element_bytes = wide.accumulator_bytes = sizeof(double);
        EXPECT_LT(error_of<double>(wide, strategy, whole, true), 4e-15) << what;
      }
    }
  }
}

TEST(Executor, SendsRowsBeyondTwoToTheThirtyOneBytesAsOneItem) {
  // The datatype alone: 2^20 rows of 4 KiB in two planes are 8 GiB, counted in rows.
  const Datatype type = rows_of_planes({{0, 1 << 20}}, 2, 1 << 20, 4096);
  EXPECT_EQ(payload_bytes(type.get()), std::int64_t{2} << 32);
}

}  // namespace
}  // namespace longseq
