// The predictor against what can be worked out by hand, and machine files.
#include "drivers/sharding/predict.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "drivers/sharding/planner.h"

namespace longseq {
namespace {

constexpr std::int64_t kTokens = 256, kHeads = 4, kDim = 32;

Problem full_problem(int ranks, Pass pass = Pass::forward) {
  Problem problem{{.kind = PatternKind::full, .seq_len = kTokens * ranks},
                  {LayoutKind::contiguous, kTokens * ranks, ranks},
                  1,
                  kHeads,
                  kHeads,
                  kDim,
                  4,
                  4};
  problem.pass = pass;
  return problem;
}

/// Rows, calls and memory cost nothing; each rank is a node.
Machine simple_machine(double flops, double bandwidth) {
  Machine machine;
  machine.forward.flops_per_second = machine.backward.flops_per_second = flops;
  machine.node = machine.network = {0, {{1, bandwidth}}};
  machine.memory_bandwidth = 1e30;
  return machine;
}

double predicted_of(Interval ranks, const Problem& problem, const Machine& machine, const char* strategy,
                    bool overlap) {
  return predict_seconds(problem, machine, ranks, planner(strategy).prepare(problem), overlap);
}

double predicted(const Problem& problem, const Machine& machine, const char* strategy, bool overlap = true) {
  return predicted_of({0, problem.layout.ranks}, problem, machine, strategy, overlap);
}

double flops_of_a_block(Pass pass) {
  return (pass == Pass::forward ? 4.0 : 10.0) * static_cast<double>(kTokens * kTokens * kHeads * kDim);
}
constexpr double kBytesOfABlock = 2.0 * static_cast<double>(kTokens * kHeads * kDim) * 4;

/// Up to what a forecast keeps of its steps' costs.
void expect_about(double got, double expected, std::string_view what = "") {
  EXPECT_NEAR(got, expected, 1e-6 * expected + 1e-12) << what;
}

TEST(Predict, WithoutCostsOfMessagesIsTheWork) {
  for (const Pass pass : {Pass::forward, Pass::backward}) {
    for (const PlannerRow& strategy : kPlanners) {
      const Problem problem = full_problem(4, pass);
      expect_about(predicted(problem, simple_machine(1e9, 1e30), strategy.name.data()),
                   4 * flops_of_a_block(pass) / 1e9, strategy.name);
    }
  }
}

TEST(Predict, OfMoreRanksThanAreSimulatedIsTheWorkOfTheBusiest) {
  const int ranks = kMostSimulated + 1;
  const Machine machine = simple_machine(1, 1e30);
  Forecast forecast(machine, ranks, true);
  for (int rank = 0; rank < ranks; ++rank) forecast.add(rank, {{rank == 1 ? 5.0 : 1.0, 0, {}}});
  EXPECT_DOUBLE_EQ(forecast.of_slowest().time.total, 5);
  EXPECT_EQ(forecast.of_slowest().rank, 1);
}

TEST(Predict, OfARankAloneIsThatAmongOthersLikeIt) {
  Machine machine = simple_machine(1, 4);
  machine.ranks_per_node = 2;
  machine.network = {0.5, {{1, 2}}};
  // To every rank comes a byte from the other one of its node, and one from a node besides.
  const auto steps = [](int rank) {
    const int beside = rank ^ 1, beyond = (rank + 2) % 4;
    return std::vector<StepCost>{{3, 1, {{beside, 1.0}, {beyond, 1.0}}}, {0.25, 2, {{beyond, 16.0}}}};
  };
  for (const bool overlap : {true, false}) {
    Forecast together(machine, 4, overlap);
    for (int rank = 0; rank < 4; ++rank) together.add(rank, steps(rank));
    Forecast alone(machine, 4, overlap, false);
    for (int rank = 3; rank >= 0; --rank) alone.add(rank, steps(rank));
    const RankTime of_all = together.of_slowest().time, own = alone.of_slowest().time;
    EXPECT_DOUBLE_EQ(own.total, overlap ? (3 + 0.25 + 1) + (8.5 + 2) : (3 + 0.25 + 1 + 1) + (0.25 + 8.5 + 2));
    EXPECT_DOUBLE_EQ(of_all.total, own.total);
    EXPECT_DOUBLE_EQ(of_all.waiting, own.waiting);
    EXPECT_FALSE(alone.of_slowest().path.has_value());
    EXPECT_EQ(alone.of_slowest().rank, 0);
  }
}

TEST(Predict, EachOfManyRanksPredictsItselfAndTheSlowestCounts) {
  Problem problem = full_problem(64);
  problem.pattern.causal = true;  // the last rank has the most to do
  const Machine machine = simple_machine(1e9, 1e9);
  double slowest = 0;
  for (int rank = 0; rank < problem.layout.ranks; ++rank)
    slowest = std::max(slowest, predicted_of({rank, rank + 1}, problem, machine, "ring", true));
  EXPECT_NEAR(slowest, predicted(problem, machine, "ring"), 1e-6 * slowest);  // nobody makes it wait
  EXPECT_LT(predicted_of({0, 1}, problem, machine, "ring", true), slowest / 50);
}

TEST(Predict, RowsOfQueriesAreLoadedOnceForAllKeysOfAStep) {
  Machine machine = simple_machine(1e30, 1e30);
  machine.forward.query_row = 1e-9;
  // The own keys in one step, those of three others in the next.
  expect_about(predicted(full_problem(4), machine, "allgather"), 2e-9 * kTokens * kHeads * kDim);
}

TEST(Predict, ARingOfSlowMessagesTakesTheirTimeAndTheFirstBlockHidesOnlyItself) {
  const Problem problem = full_problem(4);
  const double compute = flops_of_a_block(Pass::forward) / 1e12, message = kBytesOfABlock / 1e6;
  const Machine machine = simple_machine(1e12, 1e6);
  // Three messages, each with a block beside it, and the last block after them.
  expect_about(predicted(problem, machine, "ring"), 3 * message + compute);
  expect_about(predicted(problem, machine, "ring", false), 3 * message + 4 * compute);
}

TEST(Predict, CopyingWithinANodeIsNotHidden) {
  const Problem problem = full_problem(2);
  Machine machine = simple_machine(1e9, 1e9);
  const double compute = 2 * flops_of_a_block(Pass::forward) / 1e9, message = kBytesOfABlock / 1e9;
  expect_about(predicted(problem, machine, "ring"), compute);
  machine.ranks_per_node = 2;
  expect_about(predicted(problem, machine, "ring"), compute + message);
}

TEST(Predict, MemoryIsTouchedByOwnTensorsCopiesAndZeros) {
  Machine machine = simple_machine(1e30, 1e30);
  machine.memory_bandwidth = 1e9;
  const double outputs = kBytesOfABlock / 2 / 1e9;  // s to touch as many bytes, of a rank
  // An all-gather copies the own keys, twice as many as outputs.
  expect_about(predicted(full_problem(2), machine, "ring"), 0);
  expect_about(predicted(full_problem(2), machine, "allgather"), 2.25 * 2 * outputs);
  // Outputs and their gradients are read.
  expect_about(predicted(full_problem(1, Pass::backward), machine, "ring"), 0.75 * 2 * outputs);
  // A ring of two besides: half of dq begins as zero, the own keys' gradients that come are added.
  expect_about(predicted(full_problem(2, Pass::backward), machine, "ring"),
               (0.75 * 2 + 1.5 * 0.5 + 2.25 * 2) * outputs);
}

TEST(Predict, ARankWaitsForALateOne) {
  const Machine machine = simple_machine(1, 1e30);
  Forecast forecast(machine, 2, true);
  forecast.add(0, {{5, 0, {}}, {3, 0, {}}, {1, 0, {}}});
  forecast.add(1, {{1, 0, {}}, {1, 0, {{0, 1.0}}}, {1, 0, {}}});
  std::vector<StepTime> steps;  // of rank 1
  const std::vector<Prediction> of = forecast.of_ranks([&](const StepTime& time) {
    if (time.rank == 1) steps.push_back(time);
  });
  EXPECT_DOUBLE_EQ(of[0].time.total, 9);
  // Its second step's message starts at 5, when rank 0 gets there; in its third it waits for nobody.
  EXPECT_DOUBLE_EQ(of[1].time.total, 6);
  EXPECT_DOUBLE_EQ(of[1].time.waiting, 3);
  ASSERT_EQ(steps.size(), 3);
  EXPECT_EQ(steps[1].step, 1);
  EXPECT_DOUBLE_EQ(steps[1].begin, 1);
  EXPECT_DOUBLE_EQ(steps[1].computed, 2);
  EXPECT_DOUBLE_EQ(steps[1].arrived, 5);
  EXPECT_DOUBLE_EQ(steps[1].joined, 5);
  EXPECT_DOUBLE_EQ(steps[2].arrived, steps[2].begin);
  EXPECT_EQ(forecast.of_slowest().rank, 0);
}

TEST(Predict, TheCriticalPathLeadsBackToWhoWasWaitedFor) {
  Machine machine = simple_machine(1, 4);
  // Rank 2 has little to do, but waits for rank 1, which waits for rank 0: a byte takes a quarter of a
  // second.
  for (const bool overlap : {true, false}) {
    Forecast forecast(machine, 3, overlap);
    forecast.add(0, {{8, 0, {}}, {0.5, 0, {}}});
    forecast.add(1, {{2, 0, {}}, {1, 2, {{0, 1.0}}}});
    forecast.add(2, {{1, 0, {}}, {1, 0, {}}, {1, 4, {{1, 16.0}}}});
    const Prediction slowest = forecast.of_slowest();
    const CriticalPath path = slowest.path.value();
    EXPECT_EQ(slowest.rank, 2);
    // 8 of rank 0, a message to rank 1, which joins, and one to rank 2, which joins; each computes after its
    // message if that is not hidden.
    EXPECT_DOUBLE_EQ(path.work, overlap ? 8 : 8 + 1 + 1);
    EXPECT_DOUBLE_EQ(path.messages, 0.25 + 4);
    EXPECT_DOUBLE_EQ(path.joining, 2 + 4);
    EXPECT_EQ(path.hand_overs, 2);
    EXPECT_DOUBLE_EQ(slowest.time.total, path.work + path.messages + path.joining);
    EXPECT_DOUBLE_EQ(slowest.time.compute, 3);
    EXPECT_DOUBLE_EQ(slowest.time.waiting, slowest.time.total - 3 - 4);
  }
}

TEST(Link, InterpolatesItsRatesByTheSizesLogarithm) {
  const Link link{1, {{10, 5}, {1000, 1}}};
  EXPECT_DOUBLE_EQ(link.seconds(5), 1 + 5 / 5.0);
  EXPECT_DOUBLE_EQ(link.seconds(10), 1 + 10 / 5.0);
  EXPECT_DOUBLE_EQ(link.seconds(100), 1 + 100 / 3.0);
  EXPECT_DOUBLE_EQ(link.seconds(4000), 1 + 4000 / 1.0);
}

class MachineFile : public testing::Test {
 protected:
  std::string write(const std::string& text) {
    const auto path = std::filesystem::temp_directory_path() / "longseq_machine_test.cfg";
    std::ofstream(path) << text;
    return path.string();
  }
  std::string refusal(const std::string& text) {
    try {
      read_machine(write(text), "f32");
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "";
  }
  const std::string whole =
      "name = N\nsource = S\nranks_per_node = 4\nflops_f32 = 1e12\nnode_latency = 1e-6\nnode_bandwidth = "
      "1e10\n"
      "network_latency = 2e-6\nnetwork_bandwidth = 2e9\nmemory_bandwidth = 1e11\n";
};

TEST_F(MachineFile, IsReadForItsType) {
  const Machine f32 = read_machine(write(whole + "backward_efficiency = 0.5\n"), "f32");
  EXPECT_EQ(f32.name, "N");
  EXPECT_EQ(f32.ranks_per_node, 4);
  EXPECT_DOUBLE_EQ(f32.forward.flops_per_second, kUsualEfficiency * 1e12);
  EXPECT_DOUBLE_EQ(f32.backward.flops_per_second, 0.5e12);
  EXPECT_DOUBLE_EQ(read_machine(write(whole), "f64").forward.flops_per_second, kUsualEfficiency * 0.5e12);
  EXPECT_DOUBLE_EQ(read_machine(write(whole + "flops_bf16 = 3e12\n"), "bf16").forward.flops_per_second,
                   kUsualEfficiency * 3e12);
}

TEST_F(MachineFile, ThatIsWrongIsRefusedWithItsKey) {
  EXPECT_NE(refusal("name = N\n").find("is missing; expected a number"), std::string::npos);
  EXPECT_NE(refusal(whole + "colour = red\n").find("colour"), std::string::npos);
  std::string negative = whole;
  negative.replace(negative.find("1e11"), 4, "-1");
  EXPECT_NE(refusal(negative).find("memory_bandwidth is -1; expected a positive number"), std::string::npos);
  std::string halved = whole;
  halved.replace(halved.find("= 4"), 3, "= 0.5");
  EXPECT_NE(refusal(halved).find("ranks_per_node is 0.5; expected a whole number"), std::string::npos);
  EXPECT_THROW(read_machine("no such file", "f32"), std::runtime_error);
}

TEST_F(MachineFile, ThatIsShippedCanBeRead) {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(LONGSEQ_MACHINES)) {
    EXPECT_NO_THROW(read_machine(entry.path().string(), "bf16")) << entry.path();
    EXPECT_FALSE(read_machine(entry.path().string(), "f32").source.empty());
    ++files;
  }
  EXPECT_GE(files, 3);
}

}  // namespace
}  // namespace longseq
