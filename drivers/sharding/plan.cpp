#include "drivers/sharding/plan.h"

namespace longseq {

std::int64_t messages_of(const Problem& problem, const RankPlan& plan, const Transfer& transfer) {
  constexpr std::int64_t kLarge = 64 << 10;  // bytes
  const Payload payload = buffer_of(plan, transfer.buffer).payload;
  if (transfer.heads == all_heads(problem, payload)) return 1;
  const std::int64_t blocks = planes(problem, payload, {0, 1});
  return bytes_of(problem, plan, transfer) / blocks >= kLarge ? blocks : 1;
}

int own_results(const Problem& problem) {
  return problem.pass == Pass::forward ? kOwnOutputs : kOwnQueryGradients;
}

}  // namespace longseq
