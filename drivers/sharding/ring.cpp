#include "drivers/sharding/party_ring.h"
#include "drivers/sharding/planner.h"

namespace longseq {

RankPlan plan_ring(const Problem& problem, int rank) {
  return plan_party_ring(problem, rank, 1);
}

}  // namespace longseq
