#include "suite/message_costs.h"

#include <algorithm>
#include <functional>

#include "suite/measure.h"
#include "suite/watchdog.h"

namespace longseq {
namespace {

constexpr std::int64_t kLeastColdBytes = 32 << 20;  // more than the caches that a core has to itself
constexpr int kTag = 17;

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
  const WatchedCall call("a shift of messages");
  double shift = median_of(cold ? kColdTrips : trips_for(size), exchange, forget);
  MPI_Allreduce(MPI_IN_PLACE, &shift, 1, MPI_DOUBLE, MPI_MAX, comm);
  return static_cast<double>(size) / shift;
}

}  // namespace

MessageCosts measure_messages(MPI_Comm comm, std::int64_t cache_bytes) {
  int rank = 0, ranks = 1;
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &ranks);
  MessageCosts costs;
  if (ranks == 1) return costs;
  costs.sizes = message_sizes();
  const std::int64_t buffer = std::max(kLeastColdBytes, cache_bytes / 2);  // of two
  constexpr std::int64_t kLeastCold = 32 << 10;  // below it a message is its latency
  std::vector<char> out(static_cast<std::size_t>(std::max(buffer, costs.sizes.back())), 1), in(out.size());
  const int last = ranks - 1;
  for (const std::int64_t size : costs.sizes) {
    const int count = static_cast<int>(size);
    barrier_watched(comm);
    double half = 0;
    if (rank == 0 || rank == last) {
      const int peer = rank == 0 ? last : 0;
      const WatchedCall call("a ping-pong of messages");
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

}  // namespace longseq
