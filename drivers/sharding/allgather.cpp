#include <vector>

#include "drivers/sharding/plan_builder.h"
#include "drivers/sharding/planner.h"

namespace longseq {
namespace {

/// Backward, block by block: at step s the keys of the rank s places before, whose gradients go to it in the
/// next step: a reduce-scatter in direct messages, whose sums have a fixed order. Only a block of which
/// something is seen is computed, and sent.
void add_backward(const Problem& problem, PlanBuilder& plan, const std::vector<int>& blocks) {
  const int ranks = problem.layout.ranks, rank = plan.rank();
  const Rows own_rows = plan.all_rows(kOwnQueries);
  const Shard own_keys = problem.layout.shard(rank);
  const Interval kv_heads = all_heads(problem, Payload::keys);
  for (int hop = 1; hop < ranks; ++hop) {
    const auto step = static_cast<std::size_t>(hop);
    const int owner = (rank - hop + ranks) % ranks, asker = (rank + hop) % ranks;
    const int gradients = plan.add_buffer(Payload::key_gradients, problem.layout.shard(owner), kv_heads);
    const Tile tile{.keys = blocks[static_cast<std::size_t>(owner)],
                    .into = kOwnQueryGradients,
                    .key_gradients = gradients};
    if (plan.compute(step, tile, own_rows)) plan.send(step + 1, owner, gradients);
    // Whether the asker sees any of the own keys, asked as it asks itself.
    if (!sees_any(problem.pattern, problem.layout.shard(asker), own_keys)) continue;
    const int part = plan.add_buffer(Payload::key_gradients, own_keys, kv_heads);
    plan.receive(step + 1, asker, part);
    plan.merge(step + 1, part, kOwnKeyGradients, plan.all_rows(part));
  }
}

RankPlan make(const Problem& problem, int rank) {
  PlanBuilder plan(problem, rank);
  const bool backward = problem.pass == Pass::backward;
  const int ranks = problem.layout.ranks;
  const Rows own_rows = plan.all_rows(kOwnQueries);
  const int parts = backward && ranks > 1 ? 2 : 1;
  const auto compute_own = [&](std::size_t step, int part) {
    plan.compute(step, {.into = own_results(problem)}, rows_from(part_of(count_rows(own_rows), parts, part)));
  };
  compute_own(0, 0);
  if (ranks == 1) return plan.finish();

  plan.allgather_keys(0);
  std::vector<int> blocks;
  std::int64_t offset = 0;  // the collective lays the blocks end to end, the own one among them
  for (int owner = 0; owner < ranks; ++owner) {
    blocks.push_back(plan.add_buffer_at(offset, Payload::keys, problem.layout.shard(owner),
                                        all_heads(problem, Payload::keys)));
    offset += bytes_of(problem, plan.buffer(blocks.back()));
    if (owner != rank && !backward) plan.compute(1, {.keys = blocks.back()}, own_rows);
  }
  if (backward) {
    add_backward(problem, plan, blocks);
    compute_own(plan.steps() - 1, 1);  // beside the last gradients that come home
  }
  return plan.finish();
}

}  // namespace

PlanRank plan_allgather(const Problem& problem) {
  return [&problem](int rank) { return make(problem, rank); };
}

}  // namespace longseq
