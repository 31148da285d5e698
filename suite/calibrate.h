// The machine's ceilings, measured in the same launch with the same ranks and threads as the cases
// (measurement.md, "Ceilings, in the same job"). Everything here is collective.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "results/record.h"
#include "suite/measure.h"
#include "suite/threads.h"

namespace longseq {

/// FLOP/s of all this rank's threads together, all ranks at once, of what computes in a dtype: f32, f64 or
/// bf16, which is the processor's product of bfloat16 pairs where the kernels use it, else f32.
double fma_peak(MPI_Comm comm, ThreadTeam& team, std::string_view dtype, double seconds);

/// Sum over ranks.
double sum_over_ranks(MPI_Comm comm, double value);

struct MessageCosts {
  std::vector<std::int64_t> sizes;         // bytes
  std::vector<double> latency;             // s, half a ping-pong between ranks 0 and the last
  std::vector<double> pingpong_bandwidth;  // B/s
  std::vector<double> ring_bandwidth;      // B/s sent by the slowest rank, all shifting to the next at once
  // The same between memory that the cores have not had in their own caches for some time: what tensors get,
  // where ring_bandwidth is the most that the link can do.
  std::vector<double> cold_bandwidth;
};

struct Calibration {
  Timer timer;
  double peak_f32 = 0;  // this rank, FLOP/s
  double peak_f64 = 0;
  double triad = 0;       // this rank, B/s
  MessageCosts messages;  // empty with one rank
};

/// Some seconds: FMA peaks, triad, ping-pong and ring shift at several sizes. The triad's arrays are four
/// times `cache_bytes`, this rank's share of the last-level cache, or more.
Calibration calibrate(MPI_Comm comm, ThreadTeam& team, std::int64_t cache_bytes);

/// A few milliseconds: B/s that the slowest rank sends in a ring shift, the best of two sizes; 0 with one
/// rank.
double ring_shift_rate(MPI_Comm comm);

/// As stored in /calibration.
Group calibration_group(const Calibration& calibration);

}  // namespace longseq
