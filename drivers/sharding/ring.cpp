#include "drivers/sharding/party_ring.h"
#include "drivers/sharding/planner.h"

namespace longseq {

PlanRank plan_ring(const Problem& problem) {
  return party_ring(problem, 1);
}

}  // namespace longseq
