// The backward plans, run with counts in place of numbers: each gradient ends at its owner's with exactly one
// contribution of each pair that is visible.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "drivers/sharding/audit.h"
#include "drivers/sharding/planner.h"
#include "drivers/sharding/random_problem.h"

namespace longseq {
namespace {

/// What a gradient buffer has taken in: how often, by (own head, own position, other head or −1, other
/// position).
using Content = std::map<std::array<std::int64_t, 4>, int>;

class Simulation {
 public:
  Simulation(const Problem& problem, const PlannerRow& strategy) : problem_(problem) {
    const PlanRank make = strategy.prepare(problem);
    for (int rank = 0; rank < problem.layout.ranks; ++rank) {
      plans_.push_back(make(rank));
      contents_.emplace_back(plans_.back().buffers.size());
    }
    std::size_t steps = 0;
    for (const RankPlan& plan : plans_) steps = std::max(steps, plan.steps.size());
    for (std::size_t step = 0; step < steps; ++step) run(step);
  }

  const Content& own(int rank, int buffer) const {
    return contents_[static_cast<std::size_t>(rank)][static_cast<std::size_t>(buffer)];
  }

 private:
  static bool gradient(const Buffer& buffer) {
    return buffer.payload == Payload::query_gradients || buffer.payload == Payload::key_gradients;
  }

  void run(std::size_t step) {
    struct Message {
      int from, to;
      Payload payload;
      Content content;
    };
    std::vector<Message> messages;  // as they lie when the step begins
    for (const RankPlan& plan : plans_) {
      if (step >= plan.steps.size()) continue;
      for (const Transfer& send : plan.sends_of(plan.steps[step])) {
        const Buffer& buffer = buffer_of(plan, send.buffer);
        if (!gradient(buffer)) continue;
        Content sent;
        const auto rows = positions(select(plan.positions_of(buffer), plan.rows_of(send)));
        for (const auto& [key, count] : contents(plan, send.buffer)) {
          if (send.heads.contains(key[0]) && std::find(rows.begin(), rows.end(), key[1]) != rows.end())
            sent[key] = count;
        }
        messages.push_back({plan.rank, send.peer, buffer.payload, std::move(sent)});
      }
    }
    for (const RankPlan& plan : plans_) {
      if (step >= plan.steps.size()) continue;
      for (const Tile& tile : plan.tiles_of(plan.steps[step])) compute(plan, tile);
    }
    for (const RankPlan& plan : plans_) {
      if (step >= plan.steps.size()) continue;
      for (const Transfer& receive : plan.receives_of(plan.steps[step])) {
        const Payload payload = buffer_of(plan, receive.buffer).payload;
        if (!gradient(buffer_of(plan, receive.buffer))) continue;
        const auto message = std::find_if(messages.begin(), messages.end(), [&](const Message& m) {
          return m.from == receive.peer && m.to == plan.rank && m.payload == payload;
        });
        ASSERT_NE(message, messages.end());
        for (const auto& [key, count] : message->content) contents(plan, receive.buffer)[key] = count;
        messages.erase(message);
      }
    }
    EXPECT_TRUE(messages.empty());
    for (const RankPlan& plan : plans_) {
      if (step >= plan.steps.size()) continue;
      for (const Merge& merge : plan.merges_of(plan.steps[step])) {
        const auto rows =
            positions(select(plan.positions_of(buffer_of(plan, merge.into)), plan.rows_of(merge)));
        EXPECT_EQ(rows, positions(plan.positions_of(buffer_of(plan, merge.from))));
        for (const auto& [key, count] : contents(plan, merge.from)) contents(plan, merge.into)[key] += count;
      }
    }
  }

  Content& contents(const RankPlan& plan, int buffer) {
    return contents_[static_cast<std::size_t>(plan.rank)][static_cast<std::size_t>(buffer)];
  }

  static std::vector<std::int64_t> positions_of(const RankPlan& plan, int buffer) {
    return positions(plan.positions_of(buffer_of(plan, buffer)));
  }

  void compute(const RankPlan& plan, const Tile& tile) {
    // What belongs to the queries is of the same rows as they are, and so for keys.
    for (const int buffer : {tile.output_gradients, tile.statistics, tile.into})
      EXPECT_EQ(positions_of(plan, buffer), positions_of(plan, tile.queries));
    EXPECT_EQ(positions_of(plan, tile.key_gradients), positions_of(plan, tile.keys));
    for (const std::int64_t i : positions(Shard{tile.query_positions})) {
      const VisibleKeys seen = problem_.pattern.visible_keys(i);
      for (const std::int64_t j : positions(Shard{tile.key_positions})) {
        if (!seen.first.contains(j) && !seen.second.contains(j)) continue;
        for (std::int64_t h = tile.heads.begin; h < tile.heads.end; ++h) {
          contents(plan, tile.into)[{h, i, -1, j}] += 1;
          contents(plan, tile.key_gradients)[{h / problem_.group(), j, h, i}] += 1;
        }
      }
    }
  }

  const Problem& problem_;
  std::vector<RankPlan> plans_;
  std::vector<std::vector<Content>> contents_;  // [rank][buffer]
};

TEST(BackwardPlans, BringEachContributionHomeExactlyOnce) {
  Random random(5);
  for (int trial = 0; trial < trials(250); ++trial) {
    Problem problem = random_problem(random);
    problem.pass = Pass::backward;
    Content queries, keys;
    for (std::int64_t i = 0; i < problem.pattern.seq_len; ++i) {
      const VisibleKeys seen = problem.pattern.visible_keys(i);
      for (std::int64_t j = 0; j < problem.pattern.seq_len; ++j) {
        if (!seen.first.contains(j) && !seen.second.contains(j)) continue;
        for (std::int64_t h = 0; h < problem.heads; ++h) {
          queries[{h, i, -1, j}] = 1;
          keys[{h / problem.group(), j, h, i}] = 1;
        }
      }
    }
    for (const PlannerRow& strategy : kPlanners) {
      const Simulation simulation(problem, strategy);
      Content got_queries, got_keys;
      for (int rank = 0; rank < problem.layout.ranks; ++rank) {
        for (const auto& [key, count] : simulation.own(rank, kOwnQueryGradients)) got_queries[key] += count;
        for (const auto& [key, count] : simulation.own(rank, kOwnKeyGradients)) got_keys[key] += count;
      }
      const std::string what =
          fmt::format("trial {} {} kind {} causal {} S {} P {} layout {} H {}/{} degree {}", trial,
                      strategy.name, static_cast<int>(problem.pattern.kind), problem.pattern.causal,
                      problem.pattern.seq_len, problem.layout.ranks, static_cast<int>(problem.layout.kind),
                      problem.heads, problem.kv_heads, problem.ulysses_degree);
      EXPECT_TRUE(got_queries == queries) << what;
      EXPECT_TRUE(got_keys == keys) << what;
    }
  }
}

Problem even_problem(std::int64_t n, int ranks, Pass pass) {
  Problem problem{{.kind = PatternKind::full, .seq_len = n * ranks},
                  {LayoutKind::contiguous, n * ranks, ranks},
                  1,
                  8,
                  4,
                  16,
                  2,
                  4};
  problem.pass = pass;
  return problem;
}

TEST(Bytes, OfTheRingBackwardAreKeysAgainAndGradientsHome) {
  const std::int64_t n = 12;
  const int ranks = 5;
  const Problem problem = even_problem(n, ranks, Pass::backward);
  const std::int64_t rows = 2 * (ranks - 1) * n * problem.kv_heads * problem.head_dim;
  for (const char* name : {"ring", "allgather"}) {
    for (int rank = 0; rank < ranks; ++rank) {
      EXPECT_EQ(audit(problem, planner(name).prepare(problem)(rank)).bytes_sent(), rows * 2 + rows * 4)
          << name;
    }
  }
}

TEST(Bytes, OfUlyssesAreOneAllToAllOfEachTensorThere) {
  const std::int64_t n = 12, h = 8, kv = 4, d = 16, e = 2, a = 4;
  const int ranks = 4;
  for (int rank = 0; rank < ranks; ++rank) {
    const Problem forward = even_problem(n, ranks, Pass::forward);
    EXPECT_EQ(audit(forward, plan_ulysses(forward)(rank)).bytes_sent() * ranks,
              (ranks - 1) * n * ((2 * h + 2 * kv) * d * e + h * a));
    const Problem backward = even_problem(n, ranks, Pass::backward);
    EXPECT_EQ(audit(backward, plan_ulysses(backward)(rank)).bytes_sent() * ranks,
              (ranks - 1) * n * ((2 * h + 2 * kv) * d * e + (h + 2 * kv) * d * a + 2 * h * a));
  }
}

TEST(Bytes, OfUspAreTheAllToAllOfAPartyAndTheRingOfItsShare) {
  const std::int64_t n = 12, h = 8, kv = 4, d = 16, e = 2, a = 4;
  const int ranks = 6, u = 2, r = 3;
  Problem problem = even_problem(n, ranks, Pass::forward);
  problem.ulysses_degree = u;
  for (int rank = 0; rank < ranks; ++rank) {
    EXPECT_EQ(audit(problem, plan_usp(problem)(rank)).bytes_sent(),
              (u - 1) * n * ((2 * h + 2 * kv) * d * e + h * a) / u + 2 * (r - 1) * n * kv * d * e);
  }
  problem.ulysses_degree = 4;
  EXPECT_THROW(plan_usp(problem)(0), std::invalid_argument);
}

TEST(Bytes, OfTheHaloBackwardReturnAsManyGradients) {
  const std::int64_t n = 64;
  const int ranks = 4;
  Problem problem{{.kind = PatternKind::local, .causal = true, .seq_len = n * ranks, .window_left = 50},
                  {LayoutKind::contiguous, n * ranks, ranks},
                  1,
                  6,
                  2,
                  8,
                  2,
                  4};
  problem.pass = Pass::backward;
  const std::int64_t rows = 2 * 50 * 2 * 8;
  EXPECT_EQ(audit(problem, plan_halo(problem)(0)).bytes_sent(), rows * 2);
  EXPECT_EQ(audit(problem, plan_halo(problem)(1)).bytes_sent(), rows * 2 + rows * 4);
  EXPECT_EQ(audit(problem, plan_halo(problem)(ranks - 1)).bytes_sent(), rows * 4);
}

TEST(Memory, OfARingBackwardDoesNotGrowWithTheRanks) {
  const auto arena = [](int ranks) {
    const Problem problem = even_problem(64, ranks, Pass::backward);
    return plan_ring(problem)(1).arena_bytes;
  };
  EXPECT_EQ(arena(8), arena(16));
}

}  // namespace
}  // namespace longseq
