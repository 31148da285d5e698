#include "suite/measure.h"

#include <algorithm>
#include <chrono>
#include <limits>

#include "suite/watchdog.h"

namespace longseq {
namespace {

Repetition repeat(MPI_Comm comm, double offset, bool warmup, const std::function<PhaseTimes()>& pass) {
  Repetition repetition;
  repetition.warmup = warmup;
  barrier_watched(comm);
  const double start = steady_seconds();
  repetition.phases = pass();
  const double end = steady_seconds();
  const double local[2] = {end - start, -(start + offset)};
  double most[2];
  maximum_watched(comm, local, most);
  repetition.slowest = most[0];
  repetition.start = start + offset + most[1];
  repetition.end = repetition.start + (end - start);
  repetition.phases[kTotal] = end - start;
  return repetition;
}

Decision decide_together(MPI_Comm comm, std::span<const StoppingRule> rules, const Measurement& measurement) {
  const std::vector<double> figures = measurement.figures();
  Decision decision = decide(rules, {figures, measurement.elapsed});
  int agreed[2] = {decision.stop ? 1 : 0, decision.converged ? 1 : 0};
  MPI_Bcast(agreed, 2, MPI_INT, 0, comm);
  decision.stop = agreed[0] != 0;
  decision.converged = agreed[1] != 0;
  return decision;
}

}  // namespace

std::vector<double> Measurement::figures() const {
  std::vector<double> seconds;
  for (const Repetition& repetition : repetitions) {
    if (!repetition.warmup) seconds.push_back(repetition.slowest);
  }
  return seconds;
}

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double clock_offset(MPI_Comm comm) {
  constexpr int kTrips = 10;
  int rank = 0, ranks = 1;
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &ranks);
  double offset = 0;
  for (int other = 1; other < ranks; ++other) {
    if (rank != 0 && rank != other) continue;
    double shortest = std::numeric_limits<double>::infinity();
    const WatchedCall call("a comparison of clocks");
    for (int trip = 0; trip < kTrips; ++trip) {
      double time = 0;
      if (rank == 0) {
        MPI_Recv(&time, 1, MPI_DOUBLE, other, 0, comm, MPI_STATUS_IGNORE);
        time = steady_seconds();
        MPI_Send(&time, 1, MPI_DOUBLE, other, 0, comm);
        continue;
      }
      const double sent = steady_seconds();
      MPI_Send(&time, 1, MPI_DOUBLE, 0, 0, comm);
      MPI_Recv(&time, 1, MPI_DOUBLE, 0, 0, comm, MPI_STATUS_IGNORE);
      const double received = steady_seconds();
      if (received - sent < shortest) {
        shortest = received - sent;
        offset = time - (sent + received) / 2;
      }
    }
  }
  return offset;
}

Measurement measure(MPI_Comm comm, std::span<const StoppingRule> rules, int warmups,
                    const std::function<PhaseTimes()>& pass,
                    const std::function<void(const Measurement&)>& seen) {
  const double offset = clock_offset(comm);
  Measurement measurement;
  for (int i = 0; i < warmups; ++i) measurement.repetitions.push_back(repeat(comm, offset, true, pass));
  const double begin = steady_seconds();
  do {
    measurement.repetitions.push_back(repeat(comm, offset, false, pass));
    measurement.elapsed = steady_seconds() - begin;
    measurement.decision = decide_together(comm, rules, measurement);
    if (seen) seen(measurement);
  } while (!measurement.decision.stop);
  return measurement;
}

Timer measure_timer() {
  constexpr int kReadings = 10'000;
  Timer timer{0, std::numeric_limits<double>::infinity()};
  const auto start = std::chrono::steady_clock::now();
  auto last = start;
  for (int i = 0; i < kReadings; ++i) {
    const auto reading = std::chrono::steady_clock::now();
    if (reading > last)
      timer.resolution = std::min(timer.resolution, std::chrono::duration<double>(reading - last).count());
    last = reading;
  }
  timer.cost = std::chrono::duration<double>(last - start).count() / kReadings;
  return timer;
}

double shortest_interval(const Timer& timer) {
  return 20 * timer.cost;
}

}  // namespace longseq
