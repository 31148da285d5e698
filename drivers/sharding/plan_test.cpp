// Plans without MPI, for random problems: every visible pair once, every receive with its send, closed forms
// of bytes.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "drivers/sharding/audit.h"
#include "drivers/sharding/planner.h"
#include "drivers/sharding/random_problem.h"

namespace longseq {
namespace {

bool sees(const Pattern& p, std::int64_t i, std::int64_t j) {
  const VisibleKeys keys = p.visible_keys(i);
  return keys.first.contains(j) || keys.second.contains(j);
}

std::vector<RankPlan> plans_of(const PlannerRow& strategy, const Problem& problem) {
  std::vector<RankPlan> plans;
  const PlanRank plan = strategy.prepare(problem);
  for (int rank = 0; rank < problem.layout.ranks; ++rank) plans.push_back(plan(rank));
  return plans;
}

std::string describe(const PlannerRow& strategy, const Problem& p) {
  return fmt::format(
      "{} {} H {}/{} kind {} causal {} S {} P {} layout {} window {}+{} global {} segment {}+{}",
      strategy.name, p.pass == Pass::forward ? "forward" : "backward", p.heads, p.kv_heads,
      static_cast<int>(p.pattern.kind), p.pattern.causal, p.pattern.seq_len, p.layout.ranks,
      static_cast<int>(p.layout.kind), p.pattern.window_left, p.pattern.window_right, p.pattern.global_tokens,
      p.pattern.segment_length, p.pattern.memory_length);
}

TEST(Layouts, GiveEveryPositionToExactlyOneRank) {
  Random random(1);
  for (int trial = 0; trial < trials(500); ++trial) {
    const Layout layout = random_problem(random).layout;
    std::vector<int> owners(static_cast<std::size_t>(layout.seq_len), 0);
    for (int rank = 0; rank < layout.ranks; ++rank) {
      const auto own = positions(layout.shard(rank));
      EXPECT_TRUE(std::is_sorted(own.begin(), own.end()));
      for (const std::int64_t position : own) owners[static_cast<std::size_t>(position)] += 1;
      const auto hull = positions(layout.span(0, rank + 1));
      EXPECT_TRUE(std::includes(hull.begin(), hull.end(), own.begin(), own.end()));
    }
    EXPECT_EQ(std::count(owners.begin(), owners.end(), 1), layout.seq_len);
  }
}

TEST(Plans, ComputeEachVisiblePairExactlyOnce) {
  Random random(4);
  for (int trial = 0; trial < trials(1500); ++trial) {
    const Problem problem = random_problem(random);
    const Pattern& pattern = problem.pattern;
    const auto s = static_cast<std::size_t>(pattern.seq_len), heads = static_cast<std::size_t>(problem.heads);
    for (const PlannerRow& strategy : kPlanners) {
      std::vector<int> computed(heads * s * s, 0);
      std::int64_t pairs = 0;
      for (const RankPlan& plan : plans_of(strategy, problem)) {
        for (const Step& step : plan.steps) {
          for (const Tile& tile : plan.tiles_of(step)) {
            for (const std::int64_t i : positions(Shard{tile.query_positions})) {
              for (const std::int64_t j : positions(Shard{tile.key_positions})) {
                for (std::int64_t h = tile.heads.begin; h < tile.heads.end; ++h)
                  computed[static_cast<std::size_t>(h) * s * s + static_cast<std::size_t>(i) * s +
                           static_cast<std::size_t>(j)] += sees(pattern, i, j);
              }
            }
          }
        }
        pairs += audit(problem, plan).pairs;
      }
      bool right = true;
      for (std::size_t at = 0; at < computed.size(); ++at) {
        right = right && computed[at] == sees(pattern, static_cast<std::int64_t>(at / s % s),
                                              static_cast<std::int64_t>(at % s));
      }
      EXPECT_TRUE(right) << describe(strategy, problem);
      EXPECT_EQ(pairs, pattern.area() * problem.heads) << describe(strategy, problem);
      EXPECT_NO_THROW(expect_every_pair(problem, pairs));
    }
  }
}

TEST(Plans, MatchEveryReceiveWithASendOfTheSameRowsInTheSameStep) {
  Random random(4);
  using Key = std::tuple<std::size_t, int, int, int>;  // step, from, to, payload
  using Message = std::tuple<std::int64_t, std::int64_t, std::vector<std::int64_t>>;  // heads, positions
  for (int trial = 0; trial < trials(1500); ++trial) {
    const Problem problem = random_problem(random);
    for (const PlannerRow& strategy : kPlanners) {
      std::map<Key, std::vector<Message>> sent, received;
      for (const RankPlan& plan : plans_of(strategy, problem)) {
        for (std::size_t s = 0; s < plan.steps.size(); ++s) {
          const auto note = [&](const Transfer& transfer, int from, int to, auto& list) {
            const Buffer& buffer = buffer_of(plan, transfer.buffer);
            EXPECT_GT(count_rows(plan.rows_of(transfer)), 0);
            EXPECT_FALSE(transfer.heads.empty());
            EXPECT_EQ(intersect(transfer.heads, buffer.heads), transfer.heads);
            list[{s, from, to, static_cast<int>(buffer.payload)}].push_back(
                {transfer.heads.begin, transfer.heads.end,
                 positions(select(plan.positions_of(buffer), plan.rows_of(transfer)))});
          };
          for (const Transfer& send : plan.sends_of(plan.steps[s])) note(send, plan.rank, send.peer, sent);
          for (const Transfer& receive : plan.receives_of(plan.steps[s]))
            note(receive, receive.peer, plan.rank, received);
        }
      }
      EXPECT_EQ(sent, received) << describe(strategy, problem);
    }
  }
}

TEST(Plans, UseOnlyWhatEarlierStepsBrought) {
  Random random(4);
  for (int trial = 0; trial < trials(1500); ++trial) {
    const Problem problem = random_problem(random);
    for (const PlannerRow& strategy : kPlanners) {
      for (const RankPlan& plan : plans_of(strategy, problem)) {
        std::map<int, std::size_t> arrival;
        for (std::size_t s = 0; s < plan.steps.size(); ++s) {
          for (const Transfer& receive : plan.receives_of(plan.steps[s])) arrival[receive.buffer] = s;
        }
        for (std::size_t s = 0; s < plan.steps.size(); ++s) {
          const auto read = [&](int buffer) {
            if (buffer < kOwnBuffers || arrival.count(buffer) == 0) return;
            EXPECT_LT(arrival[buffer], s) << describe(strategy, problem);
          };
          for (const Transfer& send : plan.sends_of(plan.steps[s])) read(send.buffer);
          for (const Tile& tile : plan.tiles_of(plan.steps[s])) {
            for (const int buffer : {tile.keys, tile.queries, tile.output_gradients, tile.statistics})
              read(buffer);
          }
        }
      }
    }
  }
}

/// The first and the last step in which anything is done with a buffer.
std::map<int, std::pair<std::size_t, std::size_t>> steps_of_use(const RankPlan& plan) {
  std::map<int, std::pair<std::size_t, std::size_t>> use;
  const auto note = [&](int buffer, std::size_t step) {
    const auto found = use.try_emplace(buffer, step, step).first;
    found->second.second = std::max(found->second.second, step);
  };
  for (std::size_t s = 0; s < plan.steps.size(); ++s) {
    const Step& step = plan.steps[s];
    for (const auto transfers : {plan.sends_of(step), plan.receives_of(step)}) {
      for (const Transfer& transfer : transfers) note(transfer.buffer, s);
    }
    for (const Tile& tile : plan.tiles_of(step)) {
      for (const int buffer : {tile.keys, tile.queries, tile.output_gradients, tile.statistics, tile.into,
                               tile.lse, tile.key_gradients})
        note(buffer, s);
    }
    for (const Merge& merge : plan.merges_of(step)) {
      note(merge.from, s);
      note(merge.into, s);
    }
    // A collective fills all blocks at once, whenever they are read.
    for (int buffer = kOwnBuffers; step.allgather_keys && buffer < static_cast<int>(plan.buffers.size());
         ++buffer) {
      if (buffer_of(plan, buffer).payload == Payload::keys) note(buffer, s);
    }
  }
  for (const Delivery& delivery : plan.deliveries) note(delivery.from, plan.steps.size());
  return use;
}

TEST(Plans, ShareMemoryOnlyBetweenBuffersThatNeverMeet) {
  Random random(6);
  for (int trial = 0; trial < trials(1500); ++trial) {
    const Problem problem = random_problem(random);
    for (const PlannerRow& strategy : kPlanners) {
      for (const RankPlan& plan : plans_of(strategy, problem)) {
        const auto use = steps_of_use(plan);
        const auto bytes = [&](int index) {
          const Buffer& buffer = buffer_of(plan, index);
          return Interval{buffer.offset, buffer.offset + bytes_of(problem, buffer)};
        };
        for (auto a = use.lower_bound(kOwnBuffers); a != use.end(); ++a) {
          EXPECT_GE(bytes(a->first).begin, 0);
          EXPECT_LE(bytes(a->first).end, plan.arena_bytes);
          for (auto b = std::next(a); b != use.end(); ++b) {
            if (intersect(bytes(a->first), bytes(b->first)).empty()) continue;
            EXPECT_TRUE(a->second.second < b->second.first || b->second.second < a->second.first)
                << describe(strategy, problem);
          }
        }
      }
    }
  }
}

TEST(Plans, DeliverEveryGlobalRowThatIsComputedAcrossRanks) {
  Problem problem;
  problem.pattern = {
      .kind = PatternKind::global, .seq_len = 50, .window_left = 3, .window_right = 3, .global_tokens = 12};
  for (const LayoutRow& layout : kLayouts) {
    for (const int ranks : {2, 3, 5, 8}) {
      problem.layout = {layout.kind, 50, ranks};
      std::vector<std::int64_t> delivered;
      for (const RankPlan& plan : plans_of(planner("halo"), problem)) {
        for (const Delivery& delivery : plan.deliveries) {
          const auto rows =
              positions(select(plan.positions_of(buffer_of(plan, kOwnQueries)), plan.rows_of(delivery)));
          EXPECT_EQ(rows, positions(plan.positions_of(buffer_of(plan, delivery.from))));
          delivered.insert(delivered.end(), rows.begin(), rows.end());
        }
      }
      std::sort(delivered.begin(), delivered.end());
      EXPECT_EQ(delivered, (std::vector<std::int64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}));
    }
  }
}

TEST(Bytes, OfRingAndAllgatherMeetTheClosedForm) {
  const std::int64_t n = 16, ranks = 6, kv_heads = 2, head_dim = 8, e = 4;
  Problem problem{{.kind = PatternKind::full, .seq_len = n * ranks},
                  {LayoutKind::contiguous, n * ranks, 6},
                  1,
                  4,
                  kv_heads,
                  head_dim,
                  e,
                  4};
  for (const char* name : {"ring", "allgather"}) {
    for (const LayoutRow& layout : kLayouts) {
      problem.layout.kind = layout.kind;
      for (const RankPlan& plan : plans_of(planner(name), problem)) {
        EXPECT_EQ(audit(problem, plan).bytes_sent(), 2 * (ranks - 1) * n * kv_heads * head_dim * e) << name;
      }
    }
  }
}

TEST(Bytes, OfTheCausalRingAreHalfContiguousAndThreeQuartersZigzag) {
  const std::int64_t n = 32, ranks = 8;
  Problem problem{{.kind = PatternKind::full, .causal = true, .seq_len = n * ranks},
                  {LayoutKind::contiguous, n * ranks, 8},
                  1,
                  1,
                  1,
                  4,
                  4,
                  4};
  const auto total = [&](LayoutKind layout) {
    problem.layout.kind = layout;
    std::int64_t bytes = 0;
    for (const RankPlan& plan : plans_of(planner("ring"), problem))
      bytes += audit(problem, plan).bytes_sent();
    return bytes;
  };
  const std::int64_t everything = ranks * 2 * (ranks - 1) * n * 4 * 4;
  EXPECT_EQ(total(LayoutKind::contiguous), everything / 2);
  EXPECT_EQ(total(LayoutKind::zigzag), everything * 3 / 4);
}

TEST(Bytes, OfTheHaloDependOnTheWindowAlone) {
  for (const std::int64_t n : {64, 128}) {
    for (const int ranks : {2, 4, 16}) {
      Problem problem{{.kind = PatternKind::local, .causal = true, .seq_len = n * ranks, .window_left = 50},
                      {LayoutKind::contiguous, n * ranks, ranks},
                      1,
                      6,
                      2,
                      8,
                      4,
                      4};
      for (int rank = 0; rank + 1 < ranks; ++rank) {
        EXPECT_EQ(audit(problem, plan_halo(problem)(rank)).bytes_sent(), 2 * 50 * 2 * 8 * 4);
      }
      EXPECT_EQ(audit(problem, plan_halo(problem)(ranks - 1)).bytes_sent(), 0);
    }
  }
}

TEST(Bytes, OfAWindowBetweenStripesGoToTheNeighboursAlone) {
  // Window 2 over 64 stripes: rank r's queries see the keys of ranks r-1 and r-2, all of them but at the
  // ends.
  const std::int64_t n = 32;
  const int ranks = 64;
  Problem problem{{.kind = PatternKind::local, .causal = true, .seq_len = n * ranks, .window_left = 2},
                  {LayoutKind::striped, n * ranks, ranks},
                  1,
                  1,
                  1,
                  8,
                  4,
                  4};
  for (const char* name : {"halo", "ring"}) {
    const RankAudit middle = audit(problem, planner(name).prepare(problem)(30));
    EXPECT_EQ(middle.bytes_sent(), 2 * (2 * n * 8 * 4)) << name;
    EXPECT_EQ(std::count(middle.bytes_to.begin(), middle.bytes_to.end(), 0),
              name[0] == 'h' ? ranks - 2 : ranks - 1)
        << name;  // the ring passes rank 29's keys on to rank 31 beside its own
  }
}

TEST(Bytes, OfGlobalTokensAreOneBroadcastAndOneReduction) {
  const std::int64_t s = 512, g = 8, heads = 4, kv_heads = 2, head_dim = 16, e = 4;
  const int ranks = 8;
  Problem problem{{.kind = PatternKind::global, .seq_len = s, .global_tokens = g},
                  {LayoutKind::contiguous, s, ranks},
                  1,
                  heads,
                  kv_heads,
                  head_dim,
                  e,
                  e};
  std::int64_t bytes = 0;
  for (const RankPlan& plan : plans_of(planner("halo"), problem)) bytes += audit(problem, plan).bytes_sent();
  EXPECT_EQ(bytes, (ranks - 1) * g *
                       (2 * kv_heads * head_dim * e + heads * head_dim * e + heads * (head_dim + 1) * e));
}

TEST(Memory, OfARingIsTwoBlocksAndOfAnAllgatherTheWholeSequence) {
  const std::int64_t n = 64, ranks = 8;
  Problem problem{{.kind = PatternKind::full, .seq_len = n * ranks},
                  {LayoutKind::contiguous, n * ranks, 8},
                  1,
                  1,
                  1,
                  16,
                  4,
                  4};
  const std::int64_t block = 2 * n * 16 * 4;
  EXPECT_EQ(plan_ring(problem)(3).arena_bytes, 2 * block);
  EXPECT_EQ(plan_allgather(problem)(3).arena_bytes, ranks * block);
}

TEST(Balance, OfCausalLayoutsMeetsTheClosedForm) {
  const std::int64_t n = 256;
  const int ranks = 8;
  Problem problem{{.kind = PatternKind::full, .causal = true, .seq_len = n * ranks},
                  {LayoutKind::contiguous, n * ranks, ranks},
                  1,
                  1,
                  1,
                  4,
                  4,
                  4};
  const auto balance = [&](LayoutKind layout) {
    problem.layout.kind = layout;
    PlanAudit total;
    for (const RankPlan& plan : plans_of(planner("ring"), problem)) total.add(audit(problem, plan), 0);
    return total.balance();
  };
  EXPECT_NEAR(balance(LayoutKind::contiguous), 8.0 / 15.0, 0.003);  // P/(2P−1), n large
  EXPECT_DOUBLE_EQ(balance(LayoutKind::zigzag), 1.0);
  EXPECT_GT(balance(LayoutKind::striped), 0.99);
}

TEST(Names, ThatDoNotExistAreRefusedWithTheOnesThatDo) {
  EXPECT_THROW(
      {
        try {
          planner("rnig");
        } catch (const std::invalid_argument& error) {
          EXPECT_STREQ(error.what(),
                       "strategy is 'rnig'; expected one of ring, allgather, ulysses, usp, halo");
          throw;
        }
      },
      std::invalid_argument);
}

}  // namespace
}  // namespace longseq
