#include "suite/clean.h"

#include <gtest/gtest.h>

namespace longseq {
namespace {

Conditions quiet() {
  return {.ranks_on_node = 2,
          .threads_per_rank = 4,
          .node_cores = 8,
          .exclusive = true,
          .busy_by_others = 0.1,
          .ceilings = {{"FMA peak f32", 100, 104}}};
}

TEST(Clean, SaysNothingWhenAllIsQuiet) {
  EXPECT_TRUE(check_clean(quiet()).empty());
}

TEST(Clean, NamesTooManyThreads) {
  Conditions c = quiet();
  c.threads_per_rank = 5;
  EXPECT_EQ(check_clean(c), std::vector<std::string>{"2 ranks × 5 threads on 8 cores of a node"});
}

TEST(Clean, NamesRanksThatAreNotBound) {
  Conditions c = quiet();
  c.exclusive = false;
  EXPECT_EQ(check_clean(c), std::vector<std::string>{"ranks are not bound: several may use the same cores"});
}

TEST(Clean, NamesOthersUnlessTheyHaveRoom) {
  Conditions c = quiet();
  c.busy_by_others = 0.6;  // 0.1 + 5 % of 8 cores is 0.5
  EXPECT_EQ(check_clean(c),
            std::vector<std::string>{"others kept 0.60 cores busy, 0 of 8 cores were left over"});
  c.threads_per_rank = 3;
  EXPECT_TRUE(check_clean(c).empty());
  c.threads_per_rank = 4;
  c.busy_by_others.reset();
  EXPECT_TRUE(check_clean(c).empty());
}

TEST(Clean, NamesCeilingsThatMoved) {
  Conditions c = quiet();
  c.ceilings = {{"FMA peak f32", 100, 89}, {"triad", 100, 109}, {"ring", 100, 111}, {"ping-pong", 0, 1}};
  EXPECT_EQ(check_clean(c), (std::vector<std::string>{"FMA peak f32 changed by -11 % during the job",
                                                      "ring changed by +11 % during the job",
                                                      "ping-pong changed by +inf % during the job"}));
}

TEST(BusyByOthers, IsWhatWasNotOurs) {
  const CpuTime before{.wall = 10, .busy = 100, .own = 5, .known = true};
  const CpuTime after{.wall = 12, .busy = 104, .own = 8, .known = true};
  EXPECT_DOUBLE_EQ(*busy_by_others(before, after), 0.5);
  EXPECT_DOUBLE_EQ(*busy_by_others(before, {12, 102, 8, true}), 0.0);  // ticks are coarse: never below 0
  EXPECT_FALSE(busy_by_others(before, before));
  EXPECT_FALSE(busy_by_others(before, {12, 0, 8, false}));
}

}  // namespace
}  // namespace longseq
