// What the benchmarks of kernels share: time taken between two measurements of the ceiling, by the same
// threads.
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <vector>

#include "kernels/peak.h"
#include "kernels/threads/thread_team.h"

namespace longseq::bench {

/// A benchmark's time and the FMA peak of the same threads around it.
struct Peak {
  double seconds;  // of all iterations
  double flops_per_second;
  double at_clock;  // in the moment after each iteration, the median

  /// Sets the counters: `flops` and `bytes`, rates, of what one iteration does, fraction_of_peak, and
  /// fraction_at_clock. The peak's loop never leaves the registers, and some processors clock it higher than
  /// whatever loads as well; for a moment after the work they still have the clock that the work had.
  void report(benchmark::State& state, double flops, double bytes) const {
    const double iterations = static_cast<double>(state.iterations());
    state.counters["flops"] = flops * iterations / seconds;
    state.counters["bytes"] = bytes * iterations / seconds;
    state.counters["fraction_of_peak"] = flops * iterations / seconds / flops_per_second;
    state.counters["fraction_at_clock"] = flops * iterations / seconds / at_clock;
  }
};

/// Runs the benchmark's iterations of work() between two measurements of the peak in T, of which the higher
/// counts. All of it is the team's work; its threads are awake when an iteration begins, as when one call
/// follows another.
template <class T, class Work>
Peak measure_between_peaks(benchmark::State& state, ThreadTeam& team, const Work& work) {
  constexpr double kPeakSeconds = 0.05, kMoment = 2e-4;
  const auto peak = [&team](double time) { return team.sum([time] { return measure_fma_rate<T>(time); }); };
  work();  // untimed: the system gives outputs their pages when they are first written
  const double before = peak(kPeakSeconds);
  double seconds = 0;
  std::vector<double> moments;
  for (auto _ : state) {
    const auto start = std::chrono::steady_clock::now();
    work();
    const double taken = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    state.SetIterationTime(taken);
    seconds += taken;
    moments.push_back(peak(kMoment));
  }
  const auto middle = moments.begin() + std::ssize(moments) / 2;
  std::nth_element(moments.begin(), middle, moments.end());
  return {seconds, std::max(before, peak(kPeakSeconds)), *middle};
}

/// One, and as many as the machine has.
inline std::vector<int> thread_counts() {
  const auto most = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  return most > 1 ? std::vector<int>{1, most} : std::vector<int>{1};
}

void add_attention();
void add_parts();

}  // namespace longseq::bench
