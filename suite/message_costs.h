// What messages between the launch's ranks cost. Everything here is collective.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <vector>

namespace longseq {

struct MessageCosts {
  std::vector<std::int64_t> sizes;         // bytes
  std::vector<double> latency;             // s, half a ping-pong between ranks 0 and the last
  std::vector<double> pingpong_bandwidth;  // B/s
  std::vector<double> ring_bandwidth;      // B/s sent by the slowest rank, all shifting to the next at once
  // The same between memory that the cores have not had in their own caches for some time: what tensors get,
  // where ring_bandwidth is the most that the link can do.
  std::vector<double> cold_bandwidth;
};

/// Some seconds; empty with one rank. Both buffers of a cold message are as large together as `cache_bytes`,
/// this rank's share of the last-level cache, or larger.
MessageCosts measure_messages(MPI_Comm comm, std::int64_t cache_bytes);

/// A few milliseconds: B/s that the slowest rank sends in a ring shift, the best of two sizes; 0 with one
/// rank.
double ring_shift_rate(MPI_Comm comm);

}  // namespace longseq
