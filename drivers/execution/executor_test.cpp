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
  p.relative = random.upto(0, 2) == 0;
  p.ulysses_degree = static_cast<int>(random.upto(0, ranks));
  if (p.ulysses_degree > 0 && ranks % p.ulysses_degree != 0) p.ulysses_degree = 0;
  return p;
}

/// What scores are made with beside q and k, in one type.
template <class A>
struct Terms {
  std::vector<A> table;  // (heads, 2·reach + 1), or empty
  std::int64_t reach = 0;
  Tensor<A> r;  // (1, heads, distances, head_dim), or nothing
  std::int64_t first_distance = 0;
  std::vector<A> u, v;  // (heads, head_dim)

  template <class B>
  Terms<B> as() const {
    Terms<B> other{.table = {table.begin(), table.end()},
                   .reach = reach,
                   .r = {},
                   .first_distance = first_distance,
                   .u = {u.begin(), u.end()},
                   .v = {v.begin(), v.end()}};
    if (r.data() == nullptr) return other;
    other.r = Tensor<B>(r.shape());
    std::transform(r.data(), r.data() + r.shape().elements(), other.r.data(),
                   [](A value) { return static_cast<B>(value); });
    return other;
  }
  PositionTerms<A> view() const {
    PositionTerms<A> terms;
    if (!table.empty()) terms.bias = {table.data(), reach};
    if (r.data() != nullptr) terms.relative = {r.view(), first_distance, u.data(), v.data()};
    return terms;
  }
  TermGradients<A> gradients() {
    TermGradients<A> views;
    if (!table.empty()) views.bias = table.data();
    if (r.data() != nullptr) {
      views.r = r.view();
      views.content_bias = u.data();
      views.position_bias = v.data();
    }
    return views;
  }
  std::vector<A> all() const {
    std::vector<A> values = table;
    if (r.data() != nullptr) values.insert(values.end(), r.data(), r.data() + r.shape().elements());
    values.insert(values.end(), u.begin(), u.end());
    values.insert(values.end(), v.begin(), v.end());
    return values;
  }
};

/// The whole problem's tensors in f64, the same on every rank, and its reference results.
struct Whole {
  Tensor<double> q, k, v, d_o, o, lse, dq, dk, dv;
  Terms<double> terms, d_terms;

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
        dv(k.shape()) {
    const auto number = [&] {
      const auto value = static_cast<float>(random.normal());
      return bf16 ? static_cast<double>(BFloat16(value)) : static_cast<double>(value);
    };
    for (Tensor<double>* tensor : {&q, &k, &v, &d_o})
      std::generate_n(tensor->data(), tensor->shape().elements(), number);
    if (const std::int64_t reach = random.upto(-1, 20); reach >= 0) {
      terms.reach = reach;
      terms.table.resize(static_cast<std::size_t>(p.heads * (2 * reach + 1)));
    }
    if (p.relative) {
      const Interval distances = p.pattern.distances();
      terms.first_distance = distances.begin;
      terms.r = Tensor<double>({1, p.heads, distances.size(), p.head_dim});
      terms.u.resize(static_cast<std::size_t>(p.heads * p.head_dim));
      terms.v.resize(terms.u.size());
      std::generate_n(terms.r.data(), terms.r.shape().elements(), number);
    }
    for (std::vector<double>* values : {&terms.table, &terms.u, &terms.v})
      std::generate(values->begin(), values->end(), number);
    d_terms = terms.as<double>();
    for (std::vector<double>* values : {&d_terms.table, &d_terms.u, &d_terms.v})
      std::fill(values->begin(), values->end(), 0.0);
    std::fill_n(d_terms.r.data(), d_terms.r.shape().elements(), 0.0);
    const auto sees = [&](std::int64_t i, std::int64_t j) {
      const VisibleKeys keys = p.pattern.visible_keys(i);
      return keys.first.contains(j) || keys.second.contains(j);
    };
    const auto table_at = [&](std::int64_t h, std::int64_t distance) {
      return static_cast<std::size_t>(h * (2 * terms.reach + 1) + terms.reach +
                                      std::clamp(distance, -terms.reach, terms.reach));
    };
    const double scale = 1 / std::sqrt(static_cast<double>(p.head_dim));
    const auto at = [&](std::int64_t h, std::int64_t d) {
      return static_cast<std::size_t>(h * p.head_dim + d);
    };
    const auto beside = [&](std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t j) {
      double sum = terms.table.empty() ? 0 : terms.table[table_at(h, i - j)];
      for (std::int64_t d = 0; p.relative && d < p.head_dim; ++d) {
        sum += scale * (terms.u[at(h, d)] * k.view().row(b, h / p.group(), j)[d] +
                        (q.view().row(b, h, i)[d] + terms.v[at(h, d)]) *
                            terms.r.view().row(0, h, i - j - terms.first_distance)[d]);
      }
      return sum;
    };
    attention_reference(sees, beside, q.view(), k.view(), v.view(), o.view(), lse.view());
    attention_gradient_reference(
        sees, beside, q.view(), k.view(), v.view(), d_o.view(), dq.view(), dk.view(), dv.view(),
        [&](std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t j, double d_score) {
          if (!terms.table.empty()) d_terms.table[table_at(h, i - j)] += d_score;
          for (std::int64_t d = 0; p.relative && d < p.head_dim; ++d) {
            const std::int64_t row = i - j - terms.first_distance, kv_head = h / p.group();
            const double own = scale * d_score, relative = terms.r.view().row(0, h, row)[d];
            dq.view().row(b, h, i)[d] += own * relative;
            dk.view().row(b, kv_head, j)[d] += own * terms.u[at(h, d)];
            d_terms.r.view().row(0, h, row)[d] += own * (q.view().row(b, h, i)[d] + terms.v[at(h, d)]);
            d_terms.u[at(h, d)] += own * k.view().row(b, kv_head, j)[d];
            d_terms.v[at(h, d)] += own * relative;
          }
        });
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
  Terms<A> d_terms;

  Own(const Problem& problem, const Shard& shard, const Whole& whole)
      : q({problem.batch, problem.heads, tokens_in(shard), problem.head_dim}),
        keys({2 * problem.batch, problem.kv_heads, tokens_in(shard), problem.head_dim}),
        d_o(q.shape()),
        o(q.shape()),
        lse({problem.batch, problem.heads, tokens_in(shard), 1}),
        dq(q.shape()),
        d_keys(keys.shape()),
        d_terms(whole.terms.as<A>()) {
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
            d_keys.view(),
            d_terms.gradients()};
  }
};

/// Runs the problem's pass twice (messages are started again), the second time from results that mean
/// nothing, and holds the counted traffic against the plan's.
template <class T>
void run_twice(const Problem& problem, const PlannerRow& strategy, const PositionTerms<Accumulator<T>>& terms,
               bool overlap, Own<T>& own) {
  const World w = world();
  RankPlan plan = strategy.prepare(problem)(w.rank);
  const RankAudit planned = audit(problem, plan);
  Executor<T> executor(MPI_COMM_WORLD, problem, std::move(plan), terms, own.views());
  executor.run(overlap);
  const auto spoil = [](auto& tensor, auto value) {
    std::fill_n(tensor.data(), tensor.shape().elements(), value);
  };
  if (problem.pass == Pass::forward) {
    spoil(own.o, T(std::numeric_limits<float>::quiet_NaN()));
    spoil(own.lse, std::numeric_limits<Accumulator<T>>::quiet_NaN());
  } else {
    spoil(own.dq, std::numeric_limits<Accumulator<T>>::quiet_NaN());
    spoil(own.d_keys, std::numeric_limits<Accumulator<T>>::quiet_NaN());
    spoil(own.d_terms.r, std::numeric_limits<Accumulator<T>>::quiet_NaN());
    for (auto* values : {&own.d_terms.table, &own.d_terms.u, &own.d_terms.v})
      std::fill(values->begin(), values->end(), std::numeric_limits<Accumulator<T>>::quiet_NaN());
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

/// The same of what all ranks' shares add up to: sums over `rows` rows, in which much cancels, beside numbers
/// of size 1 for each.
template <class A>
double error_of_sum(const std::vector<A>& share, const std::vector<double>& expected, std::int64_t rows) {
  std::vector<double> sum(share.begin(), share.end());
  MPI_Allreduce(MPI_IN_PLACE, sum.data(), static_cast<int>(sum.size()), MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
  double difference = 0, norm = static_cast<double>(sum.size()) * static_cast<double>(rows);
  for (std::size_t i = 0; i < sum.size(); ++i) {
    difference += std::pow(sum[i] - expected[i], 2);
    norm += expected[i] * expected[i];
  }
  return sum.empty() ? 0 : std::sqrt(difference / norm);
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
  const Terms<A> terms = whole.terms.as<A>();
  Own<T> own(problem, shard, whole);
  problem.pass = Pass::forward;
  run_twice<T>(problem, strategy, terms.view(), overlap, own);
  EXPECT_LT(error_of<T>(own.o.view(), shard, whole.o.view()), bounds.output) << what;
  EXPECT_LT(error_of<A>(own.lse.view(), shard, whole.lse.view(), 1.0), bounds.lse) << what;
  problem.pass = Pass::backward;
  run_twice<T>(problem, strategy, terms.view(), overlap, own);
  EXPECT_LT(error_of<A>(own.dq.view(), shard, whole.dq.view(), 1.0), bounds.gradient) << what << " dq";
  EXPECT_LT(error_of<A>(first_half(own.d_keys.view()), shard, whole.dk.view(), 1.0), bounds.gradient)
      << what << " dk";
  EXPECT_LT(error_of<A>(second_half(own.d_keys.view()), shard, whole.dv.view(), 1.0), bounds.gradient)
      << what << " dv";
  EXPECT_LT(error_of_sum<A>(own.d_terms.all(), whole.d_terms.all(), problem.batch * problem.pattern.seq_len),
            bounds.gradient)
      << what << " terms";
}

TEST(Executor, OfEveryPatternStrategyAndLayoutMatchesTheReferenceForwardAndBackward) {
  const World w = world();
  Random random(7);
  const int usual = w.ranks > 3 ? 20 : 40;  // more ranks than a small machine's cores wait for each other
  for (int trial = 0; trial < trials(usual); ++trial) {
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

TEST(Executor, SendsLargeBlocksOfHeadsAsMessagesOfTheirOwn) {
  const World w = world();
  Random random(9);
  Problem problem;
  problem.batch = 2;
  problem.heads = problem.kv_heads = w.ranks;
  problem.head_dim = 32;
  problem.pattern = {.kind = PatternKind::local, .causal = true, .seq_len = 520 * w.ranks, .window_left = 8};
  problem.layout = {LayoutKind::contiguous, problem.pattern.seq_len, w.ranks};
  const PlannerRow& ulysses = planner("ulysses");
  // lse is small; of two entries are queries, keys' K and V, and outputs: 2, 4, 2 and 1 for each other rank.
  EXPECT_EQ(ulysses.prepare(problem)(w.rank).sends.size(), 4 * static_cast<std::size_t>(w.ranks - 1));
  EXPECT_EQ(audit(problem, ulysses.prepare(problem)(w.rank)).messages_sent(), 9 * (w.ranks - 1));
  expect_right<float>(problem, ulysses, Whole(problem, false, random), true, {2e-6, 2e-6, 4e-6}, "blocks");
}

/// The same plan gives the same bits, however messages and threads happen to meet.
TEST(Executor, GivesTheSameBitsEveryTime) {
  const World w = world();
  Random random(8);
  Problem problem = world_problem(random, w.ranks);
  problem.pattern = {.kind = PatternKind::full, .causal = true, .seq_len = 300};
  problem.layout = {LayoutKind::zigzag, 300, w.ranks};
  problem.relative = true;
  const Whole whole(problem, false, random);
  const Terms<float> terms = whole.terms.as<float>();
  const Shard shard = problem.layout.shard(w.rank);
  for (const PlannerRow& strategy : kPlanners) {
    std::vector<float> first;
    for (int time = 0; time < 3; ++time) {
      Own<float> own(problem, shard, whole);
      for (const Pass pass : {Pass::forward, Pass::backward}) {
        problem.pass = pass;
        run_twice<float>(problem, strategy, terms.view(), time != 1, own);
      }
      std::vector<float> now(own.o.data(), own.o.data() + own.o.shape().elements());
      now.insert(now.end(), own.dq.data(), own.dq.data() + own.dq.shape().elements());
      now.insert(now.end(), own.d_keys.data(), own.d_keys.data() + own.d_keys.shape().elements());
      const std::vector<float> of_terms = own.d_terms.all();
      now.insert(now.end(), of_terms.begin(), of_terms.end());
      if (first.empty()) first = now;
      EXPECT_EQ(first, now) << strategy.name;
    }
  }
}

TEST(Executor, SendsRowsBeyondTwoToTheThirtyOneBytesAsOneItem) {
  // The datatype alone: 2^20 rows of 4 KiB in two planes of three are 8 GiB, counted in rows.
  const Datatype type = rows_of_planes(Rows{{0, 1 << 20}}, {1, 3, {1, 3}, 1 << 20, 4096});
  EXPECT_EQ(payload_bytes(type.get()), std::int64_t{2} << 32);
}

}  // namespace
}  // namespace longseq
