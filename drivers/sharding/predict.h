// The predictor: what a plan will take on a machine, without running it.
//
// Messages come once both ends are in the step: from other nodes while tiles are computed, within a node
// copied by the rank's own cores, so that their time adds up. A step ends when both are done; then what it
// touches beside its tiles follows. Ranks wait for each other's steps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <vector>

#include "drivers/sharding/machine.h"
#include "drivers/sharding/step_costs.h"
#include "kernels/positions.h"

namespace longseq {

/// Where a rank's time goes, s.
struct RankTime {
  double total = 0;
  double compute = 0;
  double copying = 0;  // within the node
  double waiting = 0;  // for messages and for others
  double joining = 0;  // and what else touches memory beside the tiles
};

/// What a rank's time is made of, s, if it is followed back to whoever was waited for.
struct CriticalPath {
  double work = 0;      // computing, and copying beside it
  double messages = 0;  // between those that are there
  double joining = 0;
  int hand_overs = 0;  // from one rank to another
};

struct Prediction {
  int rank = 0;
  RankTime time;
  std::optional<CriticalPath> path;  // if ranks were simulated together
};

/// When a rank is done with what, s from the pass's begin.
struct StepTime {
  int rank;
  std::size_t step;
  double begin;
  double computed;  // its tiles, and what it copies itself
  double arrived;   // its messages; begin, if there are none
  double joined;    // all that follows: the next step begins
};

/// A ring of so many ranks has 16 million steps, in some 400 MB. Of more ranks no steps are kept: each is
/// taken by itself, as if it never waited for a late one.
inline constexpr int kMostSimulated = 4096;

/// The time of a pass on a machine.
class Forecast {
 public:
  /// `together`: all the problem's ranks are added and, if they are not too many, simulated step by step.
  Forecast(const Machine& machine, int ranks, bool overlap, bool together = true);
  /// What price() gave for the rank. Ranks may be added in any order and by several threads.
  void add(int rank, const std::vector<StepCost>& steps);
  using Seen = std::function<void(const StepTime&)>;
  /// Once all are added. If they are simulated, `seen` gets every step.
  Prediction of_slowest(const Seen& seen = {}) const;
  /// Of each, if they are simulated.
  std::vector<Prediction> of_ranks(const Seen& seen = {}) const;

 private:
  struct Step {
    float busy;             // s
    float arrival;          // s that messages need once both ends are there
    float joining;          // s
    std::int32_t peer_end;  // of those that it waits for
  };
  struct Steps {
    std::vector<Step> steps;
    std::vector<std::int32_t> peers;
    RankTime time;  // without waiting
  };
  struct Simulation {
    std::vector<double> ends;  // [rank]
    std::vector<CriticalPath> paths;
  };
  Simulation simulate(const Seen& seen) const;

  const Machine& machine_;
  bool overlap_;
  std::vector<Steps> ranks_;  // if they are simulated
  std::mutex adding_;
  Prediction slowest_;  // if not
};

/// The seconds of the slowest of `ranks`, whose plans `plan_of` makes, called by several threads.
double predict_seconds(const Problem& problem, const Machine& machine, Interval ranks,
                       const PlanRank& plan_of, bool overlap);

}  // namespace longseq
