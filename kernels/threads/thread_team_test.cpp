#include "kernels/threads/thread_team.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <tbb/parallel_for.h>

#include <atomic>
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
  return {cpu_numbers(process_cpuset())};
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
        seen.insert(cpu_numbers(process_cpuset()));
      });
    }
  });
  EXPECT_LE(std::ssize(ids), team.threads());
  return seen;
}

TEST(ThreadTeam, PinsEachThreadToItsOwnCoreAndFreesTheCallerAfterwards) {
  const std::string before = cpu_list(process_cpuset());
  const int threads = static_cast<int>(this_process().hardware_threads.size());
  {
    ThreadTeam team(threads);
    EXPECT_EQ(team.threads(), threads);
    if (team.binding().find("pinned to") == std::string::npos) GTEST_SKIP() << team.binding();
    const auto bindings = bindings_in(team);
    EXPECT_EQ(std::ssize(bindings), threads);
    for (const auto& binding : bindings) EXPECT_EQ(binding.size(), 1u);
  }
  EXPECT_EQ(cpu_list(process_cpuset()), before);
}

TEST(ThreadTeam, PinsAgainInASecondTeam) {
  const Cores p = this_process();
  for (int round = 0; round < 2; ++round) {
    ThreadTeam team(1, p);
    if (team.binding().find("pinned to") == std::string::npos) GTEST_SKIP() << team.binding();
    for (const auto& binding : bindings_in(team)) EXPECT_EQ(binding.size(), 1u);
  }
}

TEST(ThreadTeam, DoesNotPinWhereCoresAreShared) {
  Cores p = this_process();
  p.exclusive = false;
  ThreadTeam team(1, p);
  EXPECT_EQ(team.binding(),
            "1 thread, not pinned: other ranks may use the same cores; hint: mpirun --bind-to core");
  for (const auto& binding : bindings_in(team)) EXPECT_EQ(binding, p.hardware_threads);
}

TEST(ThreadTeam, DoesNotPinMoreThreadsThanThereAre) {
  const Cores p = this_process();
  const auto threads = static_cast<int>(p.hardware_threads.size()) + 1;
  ThreadTeam team(threads, p);
  EXPECT_NE(team.binding().find("not pinned: only"), std::string::npos);
  EXPECT_THROW(ThreadTeam(0, p), std::invalid_argument);
}

TEST(ThreadTeam, SumsWhatEachThreadGivesWhileAllAreThere) {
  const int threads = static_cast<int>(this_process().hardware_threads.size());
  ThreadTeam team(threads);
  std::atomic<int> here{0};
  const double sum = team.sum([&] {
    ++here;
    for (const auto late = std::chrono::steady_clock::now() + std::chrono::seconds(10);
         here < threads && std::chrono::steady_clock::now() < late;)
      std::this_thread::yield();
    return here < threads ? 0.0 : 1.0;
  });
  EXPECT_EQ(sum, threads);
}

TEST(ThreadTeam, ReturnsWhatRunReturns) {
  ThreadTeam team(1);
  EXPECT_EQ(team.run([] { return 7; }), 7);
}

TEST(Spread, GivesDifferentThreadsWithinTheSet) {
  const CpuSet mine = process_cpuset();
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
