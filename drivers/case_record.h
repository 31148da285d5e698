// From what was seen of a case to its figures, its verdict and its record.
#pragma once

#include "drivers/bench_case.h"
#include "drivers/execution/executor.h"
#include "drivers/sharding/audit.h"
#include "suite/verify.h"

namespace longseq {

struct CaseFacts {
  int threads = 1;
  Measurement measurement;
  Measurement control;  // overlap off; empty where there is none
  Errors errors;
  double error_bound = 0;
  std::int64_t passes = 0;  // warm-up included: what the traffic's counters have seen
  Traffic traffic;
  RankAudit planned;  // of one pass
  bool traffic_as_planned = false;
  double flops = 0;        // of this rank, mask-exact
  double peak_before = 0;  // FLOP/s of all ranks together
  double peak_after = 0;
  double projection_time = 0;
  double overlap_efficiency = 0;
  double exchange_bandwidth = 0;  // B/s that a rank can send, the higher of before and after
  std::int64_t peak_memory = 0;   // B, of this rank's process
  Timer timer;
  std::vector<std::string> breaches;  // of a clean environment
};

/// Collective.
CaseRecord case_record(const Launch& launch, const Case& c, const CaseFacts& facts);

}  // namespace longseq
