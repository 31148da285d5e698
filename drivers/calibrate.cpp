// longseq calibrate: the machine's ceilings, by themselves.
#include "suite/calibrate.h"

#include <fmt/format.h>

#include "drivers/commands.h"
#include "drivers/problem.h"
#include "drivers/run_header.h"
#include "kernels/simd.h"
#include "suite/command_line.h"
#include "suite/placement.h"

namespace longseq {
namespace {

const Command kCommand{
    .name = "calibrate",
    .summary =
        "Measures FMA peaks, memory bandwidth, message latency and bandwidth, all ranks and threads at once.",
    .options = {{"threads", "T", "threads of each rank; 0: its cores", "0"}, simd_option()},
    .takes_cases = false,
};

void print(const Calibration& calibration, double peak_f32, double peak_f64, double triad,
           const std::string& cpu_model, int ranks, int threads) {
  fmt::print("{}, {} ranks x {} threads, SIMD target {}\n", cpu_model, ranks, threads, simd_target());
  fmt::print("FMA peak f32        {:10.1f} GFLOP/s\n", peak_f32 / 1e9);
  fmt::print("FMA peak f64        {:10.1f} GFLOP/s\n", peak_f64 / 1e9);
  fmt::print("triad bandwidth     {:10.1f} GB/s\n", triad / 1e9);
  fmt::print("timer               {:10.1f} ns a reading, {:.1f} ns resolution\n",
             1e9 * calibration.timer.cost, 1e9 * calibration.timer.resolution);
  const MessageCosts& messages = calibration.messages;
  if (messages.sizes.empty()) {
    fmt::print("messages            none: one rank\n");
    return;
  }
  fmt::print("{:>14} {:>14} {:>18} {:>18}\n", "message, B", "latency, us", "ping-pong, GB/s",
             "ring shift, GB/s");
  for (std::size_t i = 0; i < messages.sizes.size(); ++i) {
    fmt::print("{:>14} {:>14.2f} {:>18.3f} {:>18.3f}\n", messages.sizes[i], 1e6 * messages.latency[i],
               messages.pingpong_bandwidth[i] / 1e9, messages.ring_bandwidth[i] / 1e9);
  }
}

}  // namespace

int run_calibrate(Arguments arguments) {
  int rank = 0, ranks = 1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  const CommandLine line = parse_command_line(kCommand, arguments);
  if (line.help) {
    if (rank == 0) fmt::print("{}", help_text(kCommand, built_choices()));
    return 0;
  }
  force_simd_target(line.at("simd"));
  const Placement placement = find_placement(MPI_COMM_WORLD);
  const Environment environment = read_environment(MPI_COMM_WORLD);
  ThreadTeam team(threads_for(whole_number(line, "threads", 0, 4096), placement), placement);
  const Calibration calibration =
      calibrate(MPI_COMM_WORLD, team, environment.l3_bytes / placement.ranks_on_node);
  const double peak_f32 = sum_over_ranks(MPI_COMM_WORLD, calibration.peak_f32);
  const double peak_f64 = sum_over_ranks(MPI_COMM_WORLD, calibration.peak_f64);
  const double triad = sum_over_ranks(MPI_COMM_WORLD, calibration.triad);
  if (rank == 0) print(calibration, peak_f32, peak_f64, triad, environment.cpu_model, ranks, team.threads());
  return 0;
}

}  // namespace longseq
