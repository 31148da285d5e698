#include "drivers/sharding/planner.h"

namespace longseq {
namespace {

/// Backward, block by block: at step s the keys of the rank s places before, whose gradients go to it in the
/// next step: a reduce-scatter in direct messages, whose sums have a fixed order. Only a block of which
/// something is seen is computed, and sent.
void add_backward(const Problem& problem, RankPlan& plan, const std::vector<int>& blocks) {
  const int ranks = problem.layout.ranks, rank = plan.rank;
  const Rows own_rows = all_rows(buffer_of(plan, kOwnQueries));
  const Interval kv_heads = all_heads(problem, Payload::keys);
  for (int hop = 1; hop < ranks; ++hop) {
    const auto step = static_cast<std::size_t>(hop);
    const int owner = (rank - hop + ranks) % ranks, asker = (rank + hop) % ranks;
    const int gradients = add_buffer(plan, Payload::key_gradients, problem.layout.shard(owner), kv_heads);
    Tiles& tiles = step_at(plan, step).tiles;
    add_tiles(problem, plan,
              {.keys = blocks[static_cast<std::size_t>(owner)],
               .into = kOwnQueryGradients,
               .key_gradients = gradients},
              own_rows, tiles);
    if (!tiles.empty()) step_at(plan, step + 1).sends.push_back(transfer_all(plan, owner, gradients));
    // Whether the asker sees any of the own keys, asked as it asks itself.
    const Shard own_keys = problem.layout.shard(rank);
    if (!sees_any(problem.pattern, problem.layout.shard(asker), own_keys)) continue;
    const int part = add_buffer(plan, Payload::key_gradients, own_keys, kv_heads);
    Step& next = step_at(plan, step + 1);
    next.receives.push_back(transfer_all(plan, asker, part));
    next.merges.push_back({part, kOwnKeyGradients, all_rows(buffer_of(plan, part))});
  }
}

}  // namespace

RankPlan plan_allgather(const Problem& problem, int rank) {
  RankPlan plan = start_plan(problem, rank);
  const bool backward = problem.pass == Pass::backward;
  const int ranks = problem.layout.ranks;
  const Rows own_rows = all_rows(buffer_of(plan, kOwnQueries));
  const auto half = [&](int part) {
    if (!backward || ranks == 1) return part == 0 ? own_rows : Rows{};
    return rows_from(part_of(count_rows(own_rows), 2, part));
  };
  add_tiles(problem, plan, {.into = own_results(problem)}, half(0), step_at(plan, 0).tiles);
  if (ranks > 1) {
    step_at(plan, 0).allgather_keys = true;
    step_at(plan, 1);
    std::vector<int> blocks;
    std::int64_t offset = 0;  // the collective lays the blocks end to end, the own one among them
    for (int owner = 0; owner < ranks; ++owner) {
      const Interval kv_heads = all_heads(problem, Payload::keys);
      blocks.push_back(add_buffer(plan, Payload::keys, problem.layout.shard(owner), kv_heads));
      plan.buffers.back().offset = offset;
      offset += tokens_in(plan.buffers.back().positions) * bytes_per_row(problem, Payload::keys, kv_heads);
      if (owner != rank && !backward)
        add_tiles(problem, plan, {.keys = blocks.back()}, own_rows, plan.steps[1].tiles);
    }
    if (backward) {
      add_backward(problem, plan, blocks);
      // Beside the last gradients that come home.
      add_tiles(problem, plan, {.into = own_results(problem)}, half(1), plan.steps.back().tiles);
    }
  }
  place_buffers(problem, plan);
  return plan;
}

}  // namespace longseq
