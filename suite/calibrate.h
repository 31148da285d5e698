// The machine's ceilings, measured in the same launch with the same ranks and threads as the cases
// (measurement.md, "Ceilings, in the same job"). Everything here is collective.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <string_view>

#include "kernels/threads/thread_team.h"
#include "results/record.h"
#include "suite/measure.h"
#include "suite/message_costs.h"

namespace longseq {

/// FLOP/s of all this rank's threads together, all ranks at once, of what computes in a dtype: f32, f64 or
/// bf16, which is the processor's product of bfloat16 pairs where the kernels use it, else f32.
double fma_peak(MPI_Comm comm, ThreadTeam& team, std::string_view dtype, double seconds);

/// Sum over ranks.
double sum_over_ranks(MPI_Comm comm, double value);

struct Calibration {
  Timer timer;
  double peak_f32 = 0;  // this rank, FLOP/s
  double peak_f64 = 0;
  double triad = 0;       // this rank, B/s
  MessageCosts messages;  // empty with one rank
};

/// Some seconds: FMA peaks, triad, ping-pong and ring shift at several sizes. `cache_bytes` is this rank's
/// share of the last-level cache: the triad's arrays are four times as large, or more.
Calibration calibrate(MPI_Comm comm, ThreadTeam& team, std::int64_t cache_bytes);

/// As stored in /calibration.
Group calibration_group(const Calibration& calibration);

}  // namespace longseq
