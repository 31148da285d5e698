// What all ranks find out together: strings, placement, environment, processor time.
#include <gtest/gtest.h>
#include <mpi.h>

#include <cstdlib>
#include <ctime>
#include <regex>
#include <thread>

#include "suite/clean.h"
#include "suite/environment.h"
#include "suite/gather.h"
#include "suite/placement.h"

namespace longseq {
namespace {

struct World {
  int rank = 0, ranks = 0;
  World() {
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  }
};

TEST(AllGather, KeepsRanksInOrderAndEmptyStrings) {
  const World world;
  const auto all = all_gather(MPI_COMM_WORLD, std::string(static_cast<std::size_t>(world.rank), 'x'));
  ASSERT_EQ(std::ssize(all), world.ranks);
  for (int r = 0; r < world.ranks; ++r) EXPECT_EQ(std::ssize(all[static_cast<std::size_t>(r)]), r);
}

TEST(GatherReasons, NamesEachOnceOnEveryRank) {
  const World world;
  std::vector<std::string> mine = {"everywhere"};
  if (world.rank == world.ranks - 1) mine.push_back("last rank only");
  EXPECT_EQ(gather_reasons(MPI_COMM_WORLD, mine), (std::vector<std::string>{"everywhere", "last rank only"}));
}

TEST(Placement, CountsThisNode) {
  const World world;
  const Placement p = find_placement(MPI_COMM_WORLD);
  EXPECT_EQ(p.nodes, 1);
  EXPECT_EQ(p.node, 0);
  EXPECT_EQ(p.ranks_on_node, world.ranks);
  EXPECT_GE(p.cores, 1);
  EXPECT_GE(p.node_cores, p.cores);
  EXPECT_LE(std::ssize(p.node_hardware_threads),
            static_cast<long>(std::thread::hardware_concurrency()) * world.ranks);
  EXPECT_EQ(p.exclusive, world.ranks == 1);  // the tests run with --bind-to none
}

TEST(ThreadsFor, SharesTheNode) {
  EXPECT_EQ(threads_for(3, {}), 3);
  const auto threads_of_eight_cores = [](int ranks, bool exclusive) {
    Placement p;
    p.ranks_on_node = ranks;
    p.node_cores = 8;
    p.cores = exclusive ? p.node_cores / ranks : p.node_cores;
    p.exclusive = exclusive;
    return threads_for(0, p);
  };
  EXPECT_EQ(threads_of_eight_cores(2, false), 4);
  EXPECT_EQ(threads_of_eight_cores(2, true), 4);
  EXPECT_EQ(threads_of_eight_cores(9, false), 1);
}

TEST(Environment, IsTheSameOnEveryRankAndComplete) {
  const World world;
  setenv("SLURM_JOB_ID", "42", 1);
  setenv("SLURM_JWT", "secret", 1);
  const Environment e = read_environment(MPI_COMM_WORLD);
  EXPECT_EQ(e.ranks, world.ranks);
  EXPECT_EQ(std::ssize(e.hostnames), world.ranks);
  EXPECT_EQ(std::ssize(e.bindings), world.ranks);
  EXPECT_EQ(std::ssize(e.memory_available), world.ranks);
  for (const std::string& binding : e.bindings)
    EXPECT_TRUE(std::regex_match(binding, std::regex("[0-9,-]+")));
  EXPECT_TRUE(std::regex_match(e.started, std::regex(R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)"))) << e.started;
  EXPECT_NE(e.mpi_library.find("MPI"), std::string::npos);
  EXPECT_FALSE(e.code_version.empty());
  EXPECT_FALSE(e.compiler.empty());
  EXPECT_FALSE(e.cpu_model.empty());
  EXPECT_GE(e.cores, 1);
  EXPECT_GE(e.hardware_threads, e.cores);
  EXPECT_GE(e.numa_nodes, 1);
  EXPECT_GT(e.l1d_bytes, 0);
  EXPECT_GT(e.memory_bytes, e.memory_available_bytes);
  EXPECT_EQ(e.scheduler, (std::vector<std::pair<std::string, std::string>>{{"SLURM_JOB_ID", "42"}}));
  const auto attributes = fields(e);
  EXPECT_EQ(attributes.back(), (std::pair<std::string, Scalar>("SLURM_JOB_ID", std::string("42"))));
  unsetenv("SLURM_JOB_ID");
  unsetenv("SLURM_JWT");
}

void work_for(double seconds) {
  const std::clock_t end = std::clock() + static_cast<std::clock_t>(seconds * CLOCKS_PER_SEC);
  while (std::clock() < end) {
  }
}

TEST(CpuTime, CountsOwnWorkOfAllRanksAsOwn) {
  const World world;
  const Placement p = find_placement(MPI_COMM_WORLD);
  const CpuTime before = read_cpu_time(MPI_COMM_WORLD, p);
  work_for(0.3);
  const CpuTime after = read_cpu_time(MPI_COMM_WORLD, p);
  EXPECT_GE(after.own - before.own, 0.29 * world.ranks);
  EXPECT_GT(after.wall, before.wall);
  if (!before.known) GTEST_SKIP() << "/proc/stat says nothing here";
  EXPECT_GE(after.busy - before.busy, 0.29 * world.ranks - 0.05 * world.ranks);  // ticks of 10 ms
  EXPECT_TRUE(busy_by_others(before, after));
}

}  // namespace
}  // namespace longseq
