#include "drivers/sharding/party_ring.h"
#include "drivers/sharding/planner.h"

namespace longseq {

RankPlan plan_ulysses(const Problem& problem, int rank) {
  return plan_party_ring(problem, rank, problem.layout.ranks);
}

}  // namespace longseq
