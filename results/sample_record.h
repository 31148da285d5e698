// A made-up launch whose every value follows from its indices, for the tests of this floor.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <string>
#include <vector>

#include "results/record.h"

namespace longseq::sample {

inline constexpr const char* kConfigurationId = "d1ge57";
inline const std::vector<std::string> kPhases = {"compute", "communication", "waiting", "merging", "total"};

constexpr double seconds(std::int64_t index, std::int64_t phase, std::int64_t rank, std::int64_t repetition) {
  return static_cast<double>(1000 * index + 100 * phase + 10 * rank + repetition) + 0.25;
}

constexpr std::int64_t bytes(std::int64_t rank, std::int64_t peer) {
  return 7 * rank + 100 * peer;
}

/// Of different lengths, so that the ranks must agree on a width.
inline std::string hostname(std::int64_t rank) {
  return "node-é" + std::string(static_cast<std::size_t>(3 * rank), 'x');
}

inline RunHeader header(MPI_Comm comm) {
  int rank = 0;
  MPI_Comm_rank(comm, &rank);
  const std::vector<std::int64_t> sizes = {8, 1024, 1048576};
  RunHeader header;
  header.environment.attributes = {
      {"mpi_library", "Open MPI ü"}, {"cores", 64}, {"dirty", true}, {"slurm_job_id", ""}};
  header.environment.arrays = {
      {"hostname", {"rank"}, std::vector<std::string>{hostname(rank)}, "", "host of the rank", true},
      {"binding",
       {"rank"},
       std::vector<std::string>{"core " + std::to_string(rank)},
       "",
       "cores it may use",
       true}};
  header.config.attributes = {{"seed", 42}, {"confidence", 0.95}};
  header.config.axes = {{"argument", std::vector<std::int64_t>{0, 1, 2}, "1", "place on the command line"}};
  header.config.arrays = {
      {"text", {}, std::vector<std::string>{"pattern = full\nseq-len = 8\n"}, "", "sweep"},
      {"arguments", {"argument"}, std::vector<std::string>{"longseq", "bench", "x"}, "", "words"}};
  header.calibration.axes = {{"message_size", sizes, "B", "size of a message"}};
  header.calibration.arrays = {
      {"fma_peak_f32", {"rank"}, std::vector<double>{1e11 + rank}, "flop/s", "FMA peak in f32", true},
      {"pingpong_latency", {"message_size"}, std::vector<double>{1e-6, 2e-6, 3e-6}, "s", "half a round trip"},
      {"timer_cost", {}, std::vector<double>{2.5e-8}, "s", "cost of reading the clock"}};
  return header;
}

/// Case number `index` with 2 + index repetitions, the first a warm-up.
inline CaseRecord case_record(MPI_Comm comm, std::int64_t index) {
  int rank = 0;
  int ranks = 1;
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &ranks);
  const std::int64_t count = 2 + index;
  std::vector<std::int64_t> repetitions;
  std::vector<std::uint8_t> warmup;
  for (std::int64_t i = 0; i < count; ++i) {
    repetitions.push_back(i);
    warmup.push_back(i == 0 ? 1 : 0);
  }
  std::vector<double> samples;
  for (std::int64_t phase = 0; phase < 5; ++phase) {
    for (std::int64_t i = 0; i < count; ++i) samples.push_back(seconds(index, phase, rank, i));
  }
  std::vector<std::int64_t> sent;
  for (std::int64_t peer = 0; peer < ranks; ++peer) sent.push_back(bytes(rank, peer));

  CaseRecord record;
  record.columns = {
      {"pattern", index % 2 == 0 ? "full" : "local", "", "who sees whom"},
      {"seq_len", 1024 * (index + 1), "1", "tokens in a sequence"},
      {"causal", index % 2 == 1, "", "no key after its query"},
      {"median_time", 0.5 + static_cast<double>(index), "s", "median of the slowest rank's time"}};
  record.group.attributes = {{"reasons", "nothing to complain of: ≤ 2 %"}};
  record.group.axes = {{"phase", kPhases, "", "part of a repetition"},
                       {"repetition", repetitions, "1", "repetition, warm-up included"}};
  record.group.arrays = {
      {"samples", {"phase", "rank", "repetition"}, samples, "s", "time in each phase", true},
      {"warmup", {"repetition"}, warmup, "", "1: a warm-up, in no figure"},
      {"bytes_sent", {"rank", "peer"}, sent, "B", "bytes sent, counted", true},
      {"peak_memory", {"rank"}, std::vector<std::int64_t>{rank + 1}, "B", "most memory in use", true}};
  return record;
}

}  // namespace longseq::sample
