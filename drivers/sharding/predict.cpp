#include "drivers/sharding/predict.h"

#include <tbb/parallel_for.h>

#include <algorithm>
#include <cstddef>
#include <utility>

namespace longseq {
namespace {

bool same_node(const Machine& machine, int a, int b) {
  return a / machine.ranks_per_node == b / machine.ranks_per_node;
}

/// What a step's messages need once both ends are there: seconds of copying by own cores, and of the network.
struct Arrival {
  double copying = 0;
  double network = 0;
};

Arrival arrival(const Machine& machine, int rank, const StepCost& step) {
  Arrival result;
  for (const StepCost::Incoming& message : step.incoming) {
    if (same_node(machine, rank, message.peer)) {
      result.copying += machine.node.seconds(message.bytes);
    } else {
      result.network += machine.network.seconds(message.bytes);
    }
  }
  return result;
}

}  // namespace

std::vector<RankTime> simulate(const Machine& machine, const std::vector<std::vector<StepCost>>& ranks,
                               bool overlap) {
  std::vector<RankTime> times(ranks.size());
  std::size_t steps = 0;
  for (const auto& rank : ranks) steps = std::max(steps, rank.size());
  for (std::size_t s = 0; s < steps; ++s) {
    std::vector<double> start;  // of the step
    for (const RankTime& time : times) start.push_back(time.total);
    for (std::size_t r = 0; r < ranks.size(); ++r) {
      if (s >= ranks[r].size()) continue;
      const StepCost& step = ranks[r][s];
      double both_there = start[r];
      for (const StepCost::Incoming& message : step.incoming)
        both_there = std::max(both_there, start[static_cast<std::size_t>(message.peer)]);
      const Arrival needs = arrival(machine, static_cast<int>(r), step);
      const double arrived = both_there + needs.copying + needs.network;
      const double busy = step.compute + needs.copying;
      const double end = overlap ? std::max(start[r] + busy, arrived) : arrived + step.compute;
      times[r].compute += step.compute;
      times[r].copying += needs.copying;
      times[r].waiting += end - start[r] - busy;
      times[r].total = end + step.merge;
    }
  }
  return times;
}

Forecast::Forecast(const Machine& machine, int ranks, bool overlap)
    : machine_(machine),
      overlap_(overlap),
      simulated_(ranks <= kMostSimulated),
      ranks_(simulated_ ? static_cast<std::size_t>(ranks) : 0) {}

void Forecast::add(int rank, std::vector<StepCost> steps) {
  if (simulated_) {
    ranks_[static_cast<std::size_t>(rank)] = std::move(steps);
    return;
  }
  double own = 0;
  for (const StepCost& step : steps) {
    const Arrival needs = arrival(machine_, rank, step);
    const double busy = step.compute + needs.copying;
    own += (overlap_ ? std::max(busy, needs.network) : busy + needs.network) + step.merge;
  }
  const std::lock_guard lock(adding_);
  slowest_ = std::max(slowest_, own);
}

double Forecast::seconds() const {
  double slowest = slowest_;
  for (const RankTime& time : simulate(machine_, ranks_, overlap_)) slowest = std::max(slowest, time.total);
  return slowest;
}

double predict_seconds(const Problem& problem, const Machine& machine, Interval ranks,
                       const PlanRank& plan_of, bool overlap) {
  Forecast forecast(machine, problem.layout.ranks, overlap);
  tbb::parallel_for(static_cast<int>(ranks.begin), static_cast<int>(ranks.end),
                    [&](int rank) { forecast.add(rank, price(problem, machine, plan_of(rank))); });
  return forecast.seconds();
}

}  // namespace longseq
