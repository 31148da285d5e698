// Repetitions across ranks: kept one by one, judged by the slowest rank, stopped by one decision.
#include "suite/measure.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

namespace longseq {
namespace {

TEST(Measure, TakesTheSlowestRankAndKeepsEveryRepetition) {
  int rank = 0, ranks = 1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  const auto pass = [&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(1 + 4 * rank));
    return PhaseTimes{};
  };
  int seen = 0;
  const std::vector<StoppingRule> rules{MinimumRepetitions{5}};
  const Measurement measurement =
      measure(MPI_COMM_WORLD, rules, 2, pass, [&](const Measurement&) { ++seen; });
  ASSERT_EQ(measurement.repetitions.size(), 7u);
  EXPECT_EQ(seen, 5);
  EXPECT_EQ(measurement.figures().size(), 5u);
  EXPECT_TRUE(measurement.decision.converged);
  for (std::size_t i = 0; i < 7; ++i) {
    const Repetition& repetition = measurement.repetitions[i];
    EXPECT_EQ(repetition.warmup, i < 2);
    EXPECT_GE(repetition.slowest, 1e-3 + 4e-3 * (ranks - 1));
    EXPECT_GE(repetition.slowest, repetition.phases[kTotal]);
    EXPECT_GE(repetition.phases[kTotal], 1e-3 + 4e-3 * rank);
    EXPECT_GE(repetition.start, 0.0);
    EXPECT_DOUBLE_EQ(repetition.end, repetition.start + repetition.phases[kTotal]);
  }
}

TEST(Measure, OfTheTimerIsPlausible) {
  const Timer timer = measure_timer();
  EXPECT_GT(timer.cost, 0.0);
  EXPECT_GT(timer.resolution, 0.0);
  EXPECT_DOUBLE_EQ(shortest_interval(timer), 20 * timer.cost);
}

}  // namespace
}  // namespace longseq
