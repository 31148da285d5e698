#include <fmt/format.h>

#include <stdexcept>

#include "drivers/sharding/party_ring.h"
#include "drivers/sharding/planner.h"

namespace longseq {
int usp_degree(const Problem& problem) {
  if (problem.ulysses_degree > 0) return problem.ulysses_degree;
  const int ranks = problem.layout.ranks;
  int degree = 1;
  for (int divisor = 2; divisor * divisor <= ranks; ++divisor) {
    if (ranks % divisor == 0 && problem.kv_heads % divisor == 0) degree = divisor;
  }
  return degree;
}

PlanRank plan_usp(const Problem& problem) {
  const int degree = usp_degree(problem);
  if (problem.layout.ranks % degree != 0) {
    throw std::invalid_argument(fmt::format(
        "ulysses-degree is {} with {} ranks; expected a divisor of the ranks; hint: 0 chooses one", degree,
        problem.layout.ranks));
  }
  return party_ring(problem, degree);
}

}  // namespace longseq
