// The predictor: what a plan will take on a machine, without running it.
//
// A rank's step costs its tiles' FLOPs and rows, at the kernels' rate; messages cost latency and bytes over
// bandwidth, from the moment both ends are in the step. From other nodes they come while tiles are computed;
// within a node the rank's own cores copy them, so their time adds up. A step ends when both are done;
// gradients and partial results are then joined at the memory's bandwidth, at which gradients are set to
// zero first and the own keys copied to their place among all. Ranks wait for each other's steps.
#pragma once

#include <boost/container/small_vector.hpp>
#include <functional>
#include <mutex>
#include <vector>

#include "drivers/sharding/machine.h"

namespace longseq {

/// One rank's step, priced.
struct StepCost {
  struct Incoming {
    int peer;
    double bytes;
  };
  double compute = 0;  // s
  double merge = 0;    // s: joining, and what else touches memory beside the tiles
  boost::container::small_vector<Incoming, 2> incoming;  // by peer
};

std::vector<StepCost> price(const Problem& problem, const Machine& machine, const RankPlan& plan);

struct RankTime {
  double total = 0;
  double compute = 0;
  double copying = 0;  // within the node
  double waiting = 0;  // for messages and for others
};

/// All ranks' times, step by step: `ranks[r]` is what price() gave for rank r.
std::vector<RankTime> simulate(const Machine& machine, const std::vector<std::vector<StepCost>>& ranks,
                               bool overlap);

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
inline constexpr int kMostSimulated = 256;  // a few MB: each rank of a bench foresees them all

/// The same of all ranks' plans, which `plan_of` makes, called by several threads.
double predict_seconds(const Problem& problem, const Machine& machine,
                       const std::function<RankPlan(int rank)>& plan_of, bool overlap);

}  // namespace longseq
