#include "suite/calibrate.h"

#include <algorithm>
#include <vector>

#include "kernels/peak.h"
#include "kernels/simd.h"
#include "suite/watchdog.h"

namespace longseq {
namespace {

constexpr double kPeakSeconds = 0.2;
constexpr double kTriadSeconds = 0.3;
constexpr std::int64_t kLeastTriadBytes = 192 << 20;  // of the rank's three arrays

}  // namespace

double fma_peak(MPI_Comm comm, ThreadTeam& team, std::string_view dtype, double seconds) {
  barrier_watched(comm);
  return team.sum([&] {
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

Calibration calibrate(MPI_Comm comm, ThreadTeam& team, std::int64_t cache_bytes) {
  Calibration calibration;
  calibration.timer = measure_timer();
  MPI_Bcast(&calibration.timer, sizeof(Timer), MPI_BYTE, 0, comm);  // one judge for all ranks
  calibration.peak_f32 = fma_peak(comm, team, "f32", kPeakSeconds);
  calibration.peak_f64 = fma_peak(comm, team, "f64", kPeakSeconds);
  const std::int64_t bytes = std::max(kLeastTriadBytes, 4 * cache_bytes);
  const std::int64_t elements = bytes / (3 * static_cast<std::int64_t>(sizeof(float)) * team.threads());
  barrier_watched(comm);
  calibration.triad = team.sum([&] { return measure_triad_rate(elements, kTriadSeconds); });
  calibration.messages = measure_messages(comm, cache_bytes);
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
  group.arrays.push_back({"cold_shift_bandwidth",
                          {"message_size"},
                          messages.cold_bandwidth,
                          "B/s",
                          "the same from and to memory that is in no core's own cache: what predictions use",
                          false});
  return group;
}

}  // namespace longseq
