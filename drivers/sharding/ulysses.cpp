#include "drivers/sharding/party_ring.h"
#include "drivers/sharding/planner.h"

namespace longseq {

PlanRank plan_ulysses(const Problem& problem) {
  return party_ring(problem, problem.layout.ranks);
}

}  // namespace longseq
