#include "drivers/sharding/planner.h"

namespace longseq {

RankPlan plan_allgather(const Problem& problem, int rank) {
  RankPlan plan = start_plan(problem, rank);
  const Rows own_rows = all_rows(plan.buffers[kOwnQueries]);
  add_tiles(problem, plan, {}, own_rows, step_at(plan, 0).tiles);
  if (problem.layout.ranks > 1) {
    step_at(plan, 0).allgather_keys = true;
    step_at(plan, 1);
    std::int64_t offset = 0;  // the collective lays the blocks end to end, the own one among them
    for (int owner = 0; owner < problem.layout.ranks; ++owner) {
      const int buffer = add_buffer(plan, Payload::keys, owner, problem.layout.shard(owner));
      plan.buffers.back().offset = offset;
      offset += tokens_in(plan.buffers.back().positions) * bytes_per_row(problem, Payload::keys);
      if (owner != rank) add_tiles(problem, plan, {.keys = buffer}, own_rows, plan.steps[1].tiles);
    }
  }
  place_buffers(problem, plan);
  return plan;
}

}  // namespace longseq
