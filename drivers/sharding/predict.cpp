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

Forecast::Forecast(const Machine& machine, int ranks, bool overlap, bool together)
    : machine_(machine),
      overlap_(overlap),
      ranks_(together && ranks <= kMostSimulated ? static_cast<std::size_t>(ranks) : 0) {}

void Forecast::add(int rank, const std::vector<StepCost>& steps) {
  Steps own;
  own.steps.reserve(ranks_.empty() ? 0 : steps.size());
  double alone = 0;
  for (const StepCost& step : steps) {
    const Arrival needs = arrival(machine_, rank, step);
    const double busy = step.compute + (overlap_ ? needs.copying : 0);
    const double arrived = needs.copying + needs.network;
    own.time.compute += step.compute;
    own.time.copying += needs.copying;
    own.time.joining += step.merge;
    alone += (overlap_ ? std::max(busy, arrived) : busy + arrived) + step.merge;
    if (ranks_.empty()) continue;
    for (const StepCost::Incoming& message : step.incoming) own.peers.push_back(message.peer);
    own.steps.push_back({static_cast<float>(busy), static_cast<float>(arrived),
                         static_cast<float>(step.merge), static_cast<std::int32_t>(own.peers.size())});
  }
  if (!ranks_.empty()) {
    own.peers.shrink_to_fit();
    ranks_[static_cast<std::size_t>(rank)] = std::move(own);
    return;
  }
  own.time.total = alone;
  own.time.waiting = alone - own.time.compute - own.time.copying - own.time.joining;
  const std::lock_guard lock(adding_);
  const bool tie = alone == slowest_.time.total && rank < slowest_.rank;
  if (alone > slowest_.time.total || tie) slowest_ = {rank, own.time, {}};
}

Forecast::Simulation Forecast::simulate(const Seen& seen) const {
  const std::size_t ranks = ranks_.size();
  Simulation now{std::vector<double>(ranks, 0), std::vector<CriticalPath>(ranks)};
  Simulation next = now;
  std::size_t steps = 0;
  for (const Steps& rank : ranks_) steps = std::max(steps, rank.steps.size());
  for (std::size_t s = 0; s < steps; ++s) {
    for (std::size_t r = 0; r < ranks; ++r) {
      next.ends[r] = now.ends[r];
      next.paths[r] = now.paths[r];
      const Steps& own = ranks_[r];
      if (s >= own.steps.size()) continue;
      const Step& step = own.steps[s];
      std::size_t last = r;  // to be there
      for (std::int32_t p = s == 0 ? 0 : own.steps[s - 1].peer_end; p < step.peer_end; ++p) {
        const auto peer = static_cast<std::size_t>(own.peers[static_cast<std::size_t>(p)]);
        if (now.ends[peer] > now.ends[last]) last = peer;
      }
      const double arrived = now.ends[last] + step.arrival;
      const double done = (overlap_ ? now.ends[r] : arrived) + step.busy;
      CriticalPath& path = next.paths[r];
      if (!overlap_ || arrived > done) {
        path = now.paths[last];
        path.messages += step.arrival;
        path.hand_overs += last == r ? 0 : 1;
      }
      if (!overlap_ || arrived <= done) path.work += step.busy;
      path.joining += step.joining;
      next.ends[r] = std::max(done, arrived) + step.joining;
      if (seen) seen({static_cast<int>(r), s, now.ends[r], done, arrived, next.ends[r]});
    }
    std::swap(now, next);
  }
  return now;
}

std::vector<Prediction> Forecast::of_ranks(const Seen& seen) const {
  const Simulation simulation = simulate(seen);
  std::vector<Prediction> predictions;
  for (std::size_t rank = 0; rank < ranks_.size(); ++rank) {
    RankTime time = ranks_[rank].time;
    time.total = simulation.ends[rank];
    time.waiting = std::max(0.0, time.total - time.compute - time.copying - time.joining);
    predictions.push_back({static_cast<int>(rank), time, simulation.paths[rank]});
  }
  return predictions;
}

Prediction Forecast::of_slowest(const Seen& seen) const {
  if (ranks_.empty()) return slowest_;
  const std::vector<Prediction> all = of_ranks(seen);
  return *std::max_element(all.begin(), all.end(), [](const Prediction& a, const Prediction& b) {
    return a.time.total < b.time.total;
  });
}

double predict_seconds(const Problem& problem, const Machine& machine, Interval ranks,
                       const PlanRank& plan_of, bool overlap) {
  Forecast forecast(machine, problem.layout.ranks, overlap, ranks.size() == problem.layout.ranks);
  tbb::parallel_for(static_cast<int>(ranks.begin), static_cast<int>(ranks.end),
                    [&](int rank) { forecast.add(rank, price(problem, machine, plan_of(rank))); });
  return forecast.of_slowest().time.total;
}

}  // namespace longseq
