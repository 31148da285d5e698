#include "suite/calibrate.h"

#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <numeric>
#include <thread>

#include "kernels/peak.h"
#include "kernels/simd.h"
#include "suite/watchdog.h"

namespace longseq {
namespace {

constexpr double kPeakSeconds = 0.2;
constexpr double kTriadSeconds = 0.3;
constexpr std::int64_t kLeastTriadBytes = 192 << 20;  // of the rank's three arrays
constexpr int kTag = 17;

/// The sum over the team's threads of what each measures, all starting together. A thread that TBB never sent
/// counts nothing, one that was sent twice counts once.
double sum_over_threads(MPI_Comm comm, ThreadTeam& team, const std::function<double()>& one) {
  std::vector<double> rates(static_cast<std::size_t>(team.threads()), 0.0);
  barrier_watched(comm);
  team.run([&] {
    std::atomic<int> waiting{team.threads()};
    tbb::parallel_for(
        0, team.threads(),
        [&](int) {
          const double patience = steady_seconds() + 0.1;
          --waiting;
          while (waiting > 0 && steady_seconds() < patience) std::this_thread::yield();
          rates[static_cast<std::size_t>(tbb::this_task_arena::current_thread_index())] = one();
        },
        tbb::simple_partitioner());
  });
  return std::accumulate(rates.begin(), rates.end(), 0.0);
}

std::vector<std::int64_t> message_sizes() {
  std::vector<std::int64_t> sizes;
  for (std::int64_t size = 8; size <= (16 << 20); size *= 8) sizes.push_back(size);
  return sizes;
}

int trips_for(std::int64_t bytes) {
  return static_cast<int>(std::clamp<std::int64_t>((8 << 20) / bytes, 5, 200));
}

/// Seconds of the median of several exchanges; `prepare` is not timed.
double median_of(
    int trips, const std::function<void()>& exchange, const std::function<void()>& prepare = [] {}) {
  prepare();
  exchange();
  std::vector<double> seconds;
  for (int trip = 0; trip < trips; ++trip) {
    prepare();
    const double start = steady_seconds();
    exchange();
    seconds.push_back(steady_seconds() - start);
  }
  std::nth_element(seconds.begin(), seconds.begin() + trips / 2, seconds.end());
  return seconds[static_cast<std::size_t>(trips / 2)];
}

/// B/s that each rank sends while all shift `size` bytes to the next, the slowest rank's. With `cold`, all
/// that the message leaves of the buffers is written before each trip.
double shift_rate(MPI_Comm comm, std::vector<char>& out, std::vector<char>& in, std::int64_t size,
                  bool cold = false) {
  int rank = 0, ranks = 1;
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &ranks);
  const int count = static_cast<int>(size);
  const int next = (rank + 1) % ranks, previous = (rank + ranks - 1) % ranks;
  barrier_watched(comm);
  const auto exchange = [&] {
    MPI_Sendrecv(out.data(), count, MPI_BYTE, next, kTag, in.data(), count, MPI_BYTE, previous, kTag, comm,
                 MPI_STATUS_IGNORE);
  };
  const auto forget = [&] {
    if (!cold) return;
    for (std::vector<char>* buffer : {&out, &in}) std::fill(buffer->begin() + size, buffer->end(), 1);
    barrier_watched(comm);
  };
  constexpr int kColdTrips = 7;
  double shift = median_of(cold ? kColdTrips : trips_for(size), exchange, forget);
  MPI_Allreduce(MPI_IN_PLACE, &shift, 1, MPI_DOUBLE, MPI_MAX, comm);
  return static_cast<double>(size) / shift;
}

MessageCosts measure_messages(MPI_Comm comm) {
  int rank = 0, ranks = 1;
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &ranks);
  MessageCosts costs;
  if (ranks == 1) return costs;
  costs.sizes = message_sizes();
  // Bytes: more than the caches that a core has to itself, and of all ranks more than a share of the last.
  const std::int64_t buffer = std::max<std::int64_t>(32 << 20, (256 << 20) / ranks);
  constexpr std::int64_t kLeastCold = 32 << 10;  // below it a message is its latency
  std::vector<char> out(static_cast<std::size_t>(std::max(buffer, costs.sizes.back())), 1), in(out.size());
  const int last = ranks - 1;
  for (const std::int64_t size : costs.sizes) {
    const int count = static_cast<int>(size);
    barrier_watched(comm);
    double half = 0;
    if (rank == 0 || rank == last) {
      const int peer = rank == 0 ? last : 0;
      half = 0.5 * median_of(trips_for(size), [&] {
               if (rank == 0) {
                 MPI_Send(out.data(), count, MPI_BYTE, peer, kTag, comm);
                 MPI_Recv(in.data(), count, MPI_BYTE, peer, kTag, comm, MPI_STATUS_IGNORE);
               } else {
                 MPI_Recv(in.data(), count, MPI_BYTE, peer, kTag, comm, MPI_STATUS_IGNORE);
                 MPI_Send(out.data(), count, MPI_BYTE, peer, kTag, comm);
               }
             });
    }
    MPI_Bcast(&half, 1, MPI_DOUBLE, 0, comm);
    costs.latency.push_back(half);
    costs.pingpong_bandwidth.push_back(static_cast<double>(size) / half);
    costs.ring_bandwidth.push_back(shift_rate(comm, out, in, size));
    costs.cold_bandwidth.push_back(size < kLeastCold ? costs.ring_bandwidth.back()
                                                     : shift_rate(comm, out, in, size, true));
  }
  return costs;
}

}  // namespace

double fma_peak(MPI_Comm comm, ThreadTeam& team, std::string_view dtype, double seconds) {
  return sum_over_threads(comm, team, [&] {
    if (dtype == "f64") return measure_fma_rate<double>(seconds);
    return dtype == "bf16" ? measure_pair_rate(pair_products(), seconds) : measure_fma_rate<float>(seconds);
  });
}

double sum_over_ranks(MPI_Comm comm, double value) {
  barrier_watched(comm);  // ranks may have measured for long before
  double sum = 0;
  MPI_Allreduce(&value, &sum, 1, MPI_DOUBLE, MPI_SUM, comm);
  return sum;
}

double ring_shift_rate(MPI_Comm comm) {
  int ranks = 1;
  MPI_Comm_size(comm, &ranks);
  double best = 0;
  for (const std::int64_t size : {std::int64_t{256} << 10, std::int64_t{2} << 20}) {
    std::vector<char> out(static_cast<std::size_t>(size), 1), in(out.size());
    if (ranks > 1) best = std::max(best, shift_rate(comm, out, in, size));
  }
  return best;
}

Calibration calibrate(MPI_Comm comm, ThreadTeam& team, std::int64_t cache_bytes) {
  Calibration calibration;
  calibration.timer = measure_timer();
  MPI_Bcast(&calibration.timer, sizeof(Timer), MPI_BYTE, 0, comm);  // one judge for all ranks
  calibration.peak_f32 = fma_peak(comm, team, "f32", kPeakSeconds);
  calibration.peak_f64 = fma_peak(comm, team, "f64", kPeakSeconds);
  const std::int64_t bytes = std::max(kLeastTriadBytes, 4 * cache_bytes);
  const std::int64_t elements = bytes / (3 * static_cast<std::int64_t>(sizeof(float)) * team.threads());
  calibration.triad =
      sum_over_threads(comm, team, [&] { return measure_triad_rate(elements, kTriadSeconds); });
  calibration.messages = measure_messages(comm);
  return calibration;
}

Group calibration_group(const Calibration& calibration) {
  Group group;
  const auto per_rank = [&](const char* name, double value, const char* units, const char* long_name) {
    group.arrays.push_back({name, {"rank"}, std::vector<double>{value}, units, long_name, true});
  };
  per_rank("fma_peak_f32", calibration.peak_f32, "flop/s",
           "FMA peak in single precision, all threads of the rank");
  per_rank("fma_peak_f64", calibration.peak_f64, "flop/s",
           "FMA peak in double precision, all threads of the rank");
  per_rank("triad_bandwidth", calibration.triad, "B/s",
           "memory bandwidth of a triad, all threads of the rank");
  group.arrays.push_back({"timer_cost",
                          {},
                          std::vector<double>{calibration.timer.cost},
                          "s",
                          "cost of one reading of the clock",
                          false});
  group.arrays.push_back({"timer_resolution",
                          {},
                          std::vector<double>{calibration.timer.resolution},
                          "s",
                          "least difference that the clock shows",
                          false});
  const MessageCosts& messages = calibration.messages;
  if (messages.sizes.empty()) return group;
  group.axes.push_back({"message_size", messages.sizes, "B", "size of a message"});
  group.arrays.push_back({"pingpong_latency",
                          {"message_size"},
                          messages.latency,
                          "s",
                          "half a round trip between the first and the last rank",
                          false});
  group.arrays.push_back({"pingpong_bandwidth",
                          {"message_size"},
                          messages.pingpong_bandwidth,
                          "B/s",
                          "message size over half a round trip",
                          false});
  group.arrays.push_back({"ring_shift_bandwidth",
                          {"message_size"},
                          messages.ring_bandwidth,
                          "B/s",
                          "sent by each rank while all shift to the next, the slowest",
                          false});
  return group;
}

}  // namespace longseq
