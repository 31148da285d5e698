// One case, repeated until its stopping rules are content. Every repetition of every rank is kept
// (measurement.md, "Timing").
#pragma once

#include <mpi.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "suite/stopping.h"

namespace longseq {

/// The phases of one repetition on one rank, in seconds.
enum Phase : std::size_t { kCompute, kCommunication, kWaiting, kMerging, kTotal };
inline constexpr std::array<std::string_view, 5> kPhases{"compute", "communication", "waiting", "merging",
                                                         "total"};
using PhaseTimes = std::array<double, kPhases.size()>;

/// One repetition on this rank. Times count from the moment the first rank left the barrier, on rank 0's
/// clock.
struct Repetition {
  bool warmup = false;
  double start = 0;  // also this rank's start skew
  double end = 0;
  PhaseTimes phases{};  // total is end − start
  double slowest = 0;   // max over ranks of end − start
};

struct Measurement {
  std::vector<Repetition> repetitions;
  Decision decision;
  double elapsed = 0;

  /// `slowest` of the repetitions that count.
  std::vector<double> figures() const;
};

/// This rank's steady clock, in seconds.
double steady_seconds();

/// Seconds to add to this rank's steady clock to read rank 0's, by the round trip of least time. Collective.
double clock_offset(MPI_Comm comm);

/// Runs `pass` (which gives its phases but for total) `warmups` times and then until the rules stop it. Rank
/// 0 decides for all. `seen` is called on every rank after each counted repetition. Collective.
Measurement measure(MPI_Comm comm, std::span<const StoppingRule> rules, int warmups,
                    const std::function<PhaseTimes()>& pass,
                    const std::function<void(const Measurement&)>& seen);

/// What the clock costs per reading, and the least difference it shows, in seconds.
struct Timer {
  double cost = 0;
  double resolution = 0;
};
Timer measure_timer();

/// An interval shorter than this cannot be trusted: 20 times the timer's cost.
double shortest_interval(const Timer& timer);

}  // namespace longseq
