#include "kernels/threads/thread_team.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <tbb/parallel_for.h>

#include <chrono>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "kernels/threads/topology.h"

namespace longseq {
namespace {

Cores this_process() {
  return {cpu_numbers(thread_cpuset())};
}

/// Every thread's bound processors, gathered inside the team until `threads` different threads came by.
std::set<std::vector<int>> bindings_in(ThreadTeam& team) {
  std::mutex mutex;
  std::set<std::vector<int>> seen;
  std::set<std::thread::id> ids;
  team.run([&] {
    for (int round = 0; round < 1000 && std::ssize(ids) < team.threads(); ++round) {
      tbb::parallel_for(0, 8, [&](int) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        const std::lock_guard lock(mutex);
        ids.insert(std::this_thread::get_id());
        seen.insert(cpu_numbers(thread_cpuset()));
      });
    }
  });
  EXPECT_LE(std::ssize(ids), team.threads());
  return seen;
}

TEST(ThreadTeam, PinsEachThreadToItsOwnCoreAndFreesTheCallerAfterwards) {
  const std::string before = cpu_list(thread_cpuset());
  const int threads = static_cast<int>(this_process().hardware_threads.size());
  {
    ThreadTeam team(threads);
    EXPECT_EQ(team.threads(), threads);
    if (team.binding().find("this system refuses") != std::string::npos) GTEST_SKIP() << team.binding();
    const auto bindings = bindings_in(team);
    EXPECT_EQ(std::ssize(bindings), threads);
    for (const auto& binding : bindings) EXPECT_EQ(binding.size(), 1u);
  }
  EXPECT_EQ(cpu_list(thread_cpuset()), before);
}

TEST(ThreadTeam, PinsAgainInASecondTeam) {
  const Cores p = this_process();
  for (int round = 0; round < 2; ++round) {
    ThreadTeam team(1, p);
    if (team.binding().find("this system refuses") != std::string::npos) GTEST_SKIP() << team.binding();
    for (const auto& binding : bindings_in(team)) EXPECT_EQ(binding.size(), 1u);
  }
}

TEST(ThreadTeam, DoesNotPinWhereCoresAreShared) {
  Cores p = this_process();
  p.exclusive = false;
  const int threads = static_cast<int>(p.hardware_threads.size());
  bindings_in(
      *std::make_unique<ThreadTeam>(threads));  // whose workers are not to stay where it has pinned them
  ThreadTeam team(threads, p);
  EXPECT_TRUE(team.binding().ends_with(
      ", not pinned: other processes may use the same cores; hint: mpirun --bind-to core"))
      << team.binding();
  for (const auto& binding : bindings_in(team)) EXPECT_EQ(binding, p.hardware_threads);
}

TEST(ThreadTeam, DoesNotPinMoreThreadsThanThereAre) {
  const Cores p = this_process();
  const auto threads = static_cast<int>(p.hardware_threads.size()) + 1;
  ThreadTeam team(threads, p);
  EXPECT_NE(team.binding().find("not pinned: only"), std::string::npos);
  EXPECT_THROW(ThreadTeam(0, p), std::invalid_argument);
}

/// Without waiting for the others, the caller would do nearly all of it before a worker came.
TEST(ThreadTeam, SumsWhatEachThreadGivesWaitingForIt) {
  const int threads = static_cast<int>(this_process().hardware_threads.size()), rounds = 20;
  ThreadTeam team(threads);
  int complete = 0;
  for (int round = 0; round < rounds; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));  // workers fall asleep
    const double sum = team.sum([] { return 1.0; });
    EXPECT_LE(sum, threads);
    complete += sum == threads;
  }
  EXPECT_GT(complete, rounds / 2);
}

TEST(ThreadTeam, ReturnsWhatRunReturns) {
  ThreadTeam team(1);
  EXPECT_EQ(team.run([] { return 7; }), 7);
}

TEST(Spread, GivesDifferentThreadsWithinTheSet) {
  const CpuSet mine = thread_cpuset();
  const auto numbers = cpu_numbers(mine);
  const auto places = spread(mine, static_cast<int>(numbers.size()));
  std::set<int> used;
  for (const CpuSet& place : places) {
    const auto cpus = cpu_numbers(place);
    ASSERT_EQ(cpus.size(), 1u);
    used.insert(cpus[0]);
  }
  EXPECT_EQ(std::vector<int>(used.begin(), used.end()), numbers);
}

}  // namespace
}  // namespace longseq
