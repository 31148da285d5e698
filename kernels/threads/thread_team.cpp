#include "kernels/threads/thread_team.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <tbb/parallel_for.h>
#include <tbb/task_scheduler_observer.h>

#include <atomic>
#include <chrono>
#include <numeric>
#include <stdexcept>
#include <thread>

#include "kernels/threads/topology.h"

namespace longseq {
namespace {

int checked(int threads) {
  if (threads < 1) throw std::invalid_argument(fmt::format("threads {}: expected 1 or more", threads));
  return threads;
}

std::string why_not_pinned(int threads, const Cores& cores) {
  if (!cores.exclusive) return "other processes may use the same cores; hint: mpirun --bind-to core";
  const std::size_t available = cores.hardware_threads.size();
  if (static_cast<std::size_t>(threads) > available)
    return fmt::format("only {} hardware threads here", available);
  return "";
}

bool bind_this_thread(const CpuSet& place) {
  return hwloc_set_cpubind(topology(), place.get(), HWLOC_CPUBIND_THREAD) == 0;
}

}  // namespace

/// Binds the thread in slot s of the arena to place s; if there are no places, to wherever the caller may be,
/// since workers keep what the team before had them bound to. The calling thread enters and leaves at every
/// run(): it is bound the first time only, and freed when the team ends.
class PinningObserver : public tbb::task_scheduler_observer {
 public:
  PinningObserver(tbb::task_arena& arena, std::vector<CpuSet> places, CpuSet callers)
      : tbb::task_scheduler_observer(arena), places_(std::move(places)), callers_(std::move(callers)) {
    observe(true);
  }
  ~PinningObserver() override {
    observe(false);
    bind_this_thread(callers_);
  }

  void on_scheduler_entry(bool) override {
    struct Bound {
      int by = 0;
      int slot = 0;
    };
    thread_local Bound bound;
    const int slot = tbb::this_task_arena::current_thread_index();
    const bool pins = !places_.empty();
    if ((bound.by == id_ && bound.slot == slot) || slot < 0 || (pins && slot >= std::ssize(places_))) return;
    bind_this_thread(pins ? places_[static_cast<std::size_t>(slot)] : callers_);
    bound = {id_, slot};
  }

 private:
  inline static std::atomic<int> last_id_ = 0;
  const int id_ = ++last_id_;  // an address would be used again
  std::vector<CpuSet> places_;
  CpuSet callers_;
};

ThreadTeam::ThreadTeam(int threads) : ThreadTeam(threads, {cpu_numbers(thread_cpuset())}) {}

ThreadTeam::ThreadTeam(int threads, const Cores& cores)
    : limit_(tbb::global_control::max_allowed_parallelism, static_cast<std::size_t>(checked(threads))),
      arena_(threads) {
  arena_.initialize();
  const std::string team = fmt::format("{} {}", threads, threads == 1 ? "thread" : "threads");
  std::string why_not = why_not_pinned(threads, cores);
  CpuSet callers = thread_cpuset();
  std::vector<CpuSet> places;
  if (why_not.empty()) {
    places = spread(cpuset_of(cores.hardware_threads), threads);
    if (!bind_this_thread(places.front())) {
      places.clear();
      why_not = "this system refuses";
    }
  }
  if (places.empty()) {
    binding_ = fmt::format("{}, not pinned: {}", team, why_not);
  } else {
    std::vector<std::string> names;
    for (const CpuSet& place : places) names.push_back(cpu_list(place));
    binding_ = fmt::format("{} pinned to {}", team, fmt::join(names, ","));
  }
  observer_ = std::make_unique<PinningObserver>(arena_, std::move(places), std::move(callers));
}

ThreadTeam::~ThreadTeam() = default;

double ThreadTeam::sum(const std::function<double()>& one) {
  using Clock = std::chrono::steady_clock;
  std::vector<double> terms(static_cast<std::size_t>(threads()), 0.0);
  run([&] {
    std::atomic<int> waiting{threads()};
    tbb::parallel_for(
        0, threads(),
        [&](int) {
          const auto patience = Clock::now() + std::chrono::milliseconds(100);
          --waiting;
          while (waiting > 0 && Clock::now() < patience) std::this_thread::yield();
          terms[static_cast<std::size_t>(tbb::this_task_arena::current_thread_index())] = one();
        },
        tbb::simple_partitioner());
  });
  return std::accumulate(terms.begin(), terms.end(), 0.0);
}

}  // namespace longseq
