// How gradients begin, element by element: none is added to that holds nothing, none is overwritten that
// holds something.
#include "drivers/sharding/gradient_starts.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <vector>

#include "drivers/sharding/planner.h"
#include "drivers/sharding/random_problem.h"

namespace longseq {
namespace {

bool is_gradient(const Buffer& buffer) {
  return buffer.payload == Payload::query_gradients || buffer.payload == Payload::key_gradients;
}

/// Which (head, row) of each gradient buffer hold something.
class Filling {
 public:
  explicit Filling(const RankPlan& plan) : plan_(plan), held_(plan.buffers.size()) {
    for (std::size_t i = 0; i < held_.size(); ++i) {
      const Buffer& buffer = plan.buffers[i];
      held_[i].assign(static_cast<std::size_t>(buffer.heads.size() * buffer.rows), false);
    }
  }

  void fill(int buffer, Interval rows, Interval heads) {
    for_each(buffer, rows, heads, [](auto element) { element = true; });
  }
  bool all(int buffer, Interval rows, Interval heads, bool expected) {
    bool same = true;
    for_each(buffer, rows, heads, [&](auto element) { same = same && element == expected; });
    return same;
  }
  Interval rows(int buffer) const { return {0, buffer_of(plan_, buffer).rows}; }
  Interval heads(int buffer) const { return buffer_of(plan_, buffer).heads; }
  bool all(int buffer) { return all(buffer, rows(buffer), heads(buffer), true); }

 private:
  template <class Visit>
  void for_each(int buffer, Interval rows, Interval heads, const Visit& visit) {
    const Interval own = this->heads(buffer);
    for (std::int64_t h = heads.begin; h < heads.end; ++h) {
      for (std::int64_t row = rows.begin; row < rows.end; ++row)
        visit(held_[static_cast<std::size_t>(buffer)]
                   [static_cast<std::size_t>((h - own.begin) * this->rows(buffer).size() + row)]);
    }
  }

  const RankPlan& plan_;
  std::vector<std::vector<bool>> held_;
};

void expect_to_begin_well(const Problem& problem, const RankPlan& plan) {
  const GradientStarts starts = gradient_starts(problem, plan);
  Filling filling(plan);
  const auto give = [&](int buffer, Interval rows, Interval heads, bool first) {
    EXPECT_TRUE(filling.all(buffer, rows, heads, !first)) << "buffer " << buffer << " first " << first;
    filling.fill(buffer, rows, heads);
  };
  const auto zero_before = [&](std::size_t step) {
    for (const GradientStarts::Zero& zero : starts.zeros) {
      if (zero.step == step) give(zero.buffer, zero.area.rows, zero.area.heads, true);
    }
  };
  std::size_t tile = 0;
  for (std::size_t s = 0; s < plan.steps.size(); ++s) {
    const Step& step = plan.steps[s];
    zero_before(s);
    for (const Transfer& send : plan.sends_of(step)) {
      if (!is_gradient(buffer_of(plan, send.buffer))) continue;
      for (const Interval& rows : plan.rows_of(send))
        EXPECT_TRUE(filling.all(send.buffer, rows, send.heads, true));
    }
    for (const Tile& own : plan.tiles_of(step)) {
      give(own.into, own.query_rows, own.heads, starts.tiles[tile].queries);
      const Interval kv_heads = problem.kv_heads_of(own.heads), first = starts.tiles[tile].keys;
      give(own.key_gradients, first, kv_heads, true);
      give(own.key_gradients, own.key_rows, kv_heads, false);
      ++tile;
    }
    for (const Transfer& receive : plan.receives_of(step)) {
      for (const Interval& rows : plan.rows_of(receive)) filling.fill(receive.buffer, rows, receive.heads);
    }
    for (const Merge& merge : plan.merges_of(step)) {
      EXPECT_TRUE(filling.all(merge.from));
      for (const Interval& rows : plan.rows_of(merge))
        EXPECT_TRUE(filling.all(merge.into, rows, filling.heads(merge.from), true));
    }
  }
  zero_before(plan.steps.size());
  EXPECT_TRUE(filling.all(kOwnQueryGradients) && filling.all(kOwnKeyGradients));
}

TEST(GradientStarts, LeaveNothingUnsetAndOverwriteNothing) {
  Random random(17);
  for (int trial = 0; trial < trials(400); ++trial) {
    Problem problem = random_problem(random);
    problem.pass = Pass::backward;
    for (const PlannerRow& strategy : kPlanners) {
      SCOPED_TRACE(fmt::format("trial {} {} kind {} S {} P {} layout {} H {}/{}", trial, strategy.name,
                               static_cast<int>(problem.pattern.kind), problem.pattern.seq_len,
                               problem.layout.ranks, static_cast<int>(problem.layout.kind), problem.heads,
                               problem.kv_heads));
      for (int rank = 0; rank < problem.layout.ranks; ++rank)
        expect_to_begin_well(problem, strategy.prepare(problem)(rank));
    }
  }
}

TEST(GradientStarts, LittleIsSetToZeroWhereTilesAreWhole) {
  const auto zeroed = [](const Problem& problem, const char* strategy, int rank) {
    std::int64_t rows = 0;
    for (const auto& zero : gradient_starts(problem, planner(strategy).prepare(problem)(rank)).zeros)
      rows += zero.area.rows.size();
    return rows;
  };
  for (const LayoutKind layout : {LayoutKind::contiguous, LayoutKind::zigzag}) {
    Problem problem{
        {.kind = PatternKind::full, .seq_len = 64}, {layout, 64, 4}, 1, 4, 4, 8, 4, 4, Pass::backward};
    for (int rank = 0; rank < 4; ++rank) {
      EXPECT_EQ(zeroed(problem, "ulysses", rank), 0);
      EXPECT_LE(zeroed(problem, "ring", rank), 8);  // of dq: half of the own keys' tile comes last
    }
  }
  const Problem window{{.kind = PatternKind::local, .causal = true, .seq_len = 64, .window_left = 5},
                       {LayoutKind::contiguous, 64, 4},
                       1,
                       4,
                       2,
                       8,
                       4,
                       4,
                       Pass::backward};
  EXPECT_EQ(zeroed(window, "halo", 0), 0);
  // A part that took more would be the first to give zeros to keys that it does not see.
  for (const Tile& part : planner("halo").prepare(window)(0).tiles)
    EXPECT_LE(part.key_rows.size(), part.query_rows.size() + window.pattern.window_left);
}

}  // namespace
}  // namespace longseq
