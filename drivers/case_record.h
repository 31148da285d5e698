// From what was seen of a case to its figures, its verdict and its record.
#pragma once

#include <optional>

#include "drivers/bench_case.h"
#include "drivers/execution/executor.h"
#include "drivers/sharding/audit.h"
#include "suite/verify_gradients.h"

namespace longseq {

struct CaseFacts {
  int threads = 1;
  double predicted_time = 0;
  bool picked = false;  // the strategy, by prediction
  Measurement measurement;
  Measurement control;  // overlap off; empty where there is none
  Errors errors;
  std::optional<GradientErrors> gradient_errors;  // of a backward pass
  Bounds bounds{};
  std::int64_t passes = 0;  // repetitions, warm-up included: what the traffic's counters have seen
  Traffic traffic;
  std::vector<StepMoments> timeline;  // of this rank in the last repetition, on its own clock
  RankAudit planned;                  // traffic of one repetition
  std::int64_t planned_memory = 0;
  bool traffic_as_planned = false;
  double flops = 0;        // of this rank in one repetition, mask-exact
  double peak_before = 0;  // FLOP/s of all ranks together
  double peak_after = 0;
  double projection_time = 0;
  double overlap_efficiency = 0;
  double waiting_hidden = 0;
  double exchange_bandwidth = 0;  // B/s that a rank can send, the higher of before and after
  std::int64_t peak_memory = 0;   // B, of this rank's process, beyond what it held before the case
  Timer timer;
  std::vector<std::string> breaches;  // of a clean environment
};

/// Collective.
CaseRecord case_record(const Launch& launch, const Case& c, const CaseFacts& facts);

}  // namespace longseq
