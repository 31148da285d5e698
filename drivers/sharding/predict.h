// The predictor: what a plan will take on a machine, without running it.
//
// Messages come once both ends are in the step: from other nodes while tiles are computed, within a node
// copied by the rank's own cores, so that their time adds up. A step ends when both are done; then what it
// touches beside its tiles follows. Ranks wait for each other's steps.
#pragma once

#include <mutex>
#include <vector>

#include "drivers/sharding/machine.h"
#include "drivers/sharding/step_costs.h"
#include "kernels/positions.h"

namespace longseq {

struct RankTime {
  double total = 0;
  double compute = 0;
  double copying = 0;  // within the node
  double waiting = 0;  // for messages and for others
};

/// All ranks' times, step by step: `ranks[r]` is what price() gave for rank r.
std::vector<RankTime> simulate(const Machine& machine, const std::vector<std::vector<StepCost>>& ranks,
                               bool overlap);

inline constexpr int kMostSimulated = 256;  // together: a few MB

/// The time of a pass on a machine, of its slowest rank. Up to kMostSimulated ranks are simulated together;
/// of more, each is taken by itself, as if it never waited for a late one, and its steps are not kept.
class Forecast {
 public:
  Forecast(const Machine& machine, int ranks, bool overlap);
  /// What price() gave for the rank. Ranks may be added in any order and by several threads.
  void add(int rank, std::vector<StepCost> steps);
  double seconds() const;

 private:
  const Machine& machine_;
  bool overlap_;
  bool simulated_;
  std::vector<std::vector<StepCost>> ranks_;  // if they are simulated
  std::mutex adding_;
  double slowest_ = 0;  // if not
};

/// The same of the plans of `ranks`, which `plan_of` makes, called by several threads.
double predict_seconds(const Problem& problem, const Machine& machine, Interval ranks,
                       const PlanRank& plan_of, bool overlap);

}  // namespace longseq
