// The auditor: counts exactly what a plan will move, compute and hold, for the run's own counters to be held
// against.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "drivers/sharding/plan.h"

namespace longseq {

/// One rank's share of a plan.
struct RankAudit {
  std::vector<std::int64_t> bytes_to;     // [peer] payload bytes sent
  std::vector<std::int64_t> messages_to;  // [peer]
  std::int64_t rows = 0;                  // of this rank's shard
  std::int64_t pairs = 0;                 // visible (query, key, head) triples computed, per batch entry
  std::int64_t tensor_bytes = 0;          // the rank's own tensors that the pass reads or writes
  std::int64_t state_bytes = 0;           // of results in the making
  std::int64_t arena_bytes = 0;           // buffers for what is received

  std::int64_t bytes_sent() const;
  std::int64_t messages_sent() const;
};

RankAudit audit(const Problem& problem, const RankPlan& plan);

/// Mask-exact FLOPs of the problem's pass, 4·pairs·head_dim per batch entry forward, 2.5 times that backward
/// (maths.md, section 1), and with relative keys a third product forward, three more than five backward;
/// `pairs` as in RankAudit.
double pass_flops(const Problem& problem, std::int64_t pairs);

/// All ranks' shares, summed up without keeping the plans.
struct PlanAudit {
  std::int64_t ranks = 0;
  std::int64_t pairs = 0;
  std::int64_t most_pairs = 0;  // of one rank
  std::int64_t bytes_sent = 0;
  std::int64_t most_bytes_sent = 0;
  std::int64_t messages_sent = 0;
  std::int64_t steps = 0;

  /// Mean over maximum of the ranks' work: what perfect overlap and no communication cost would reach.
  double balance() const;
  void add(const RankAudit& rank, std::int64_t rank_steps);
};

/// Throws std::logic_error unless the ranks together compute as many visible pairs as the pattern has, for
/// every head. (That each is computed once, plan_test.cpp shows pair by pair.)
void expect_every_pair(const Problem& problem, std::int64_t pairs_of_all_ranks);

}  // namespace longseq
