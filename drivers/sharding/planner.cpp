#include "drivers/sharding/planner.h"

#include "drivers/sharding/row_named.h"

namespace longseq {

const PlannerRow& planner(std::string_view name) {
  return row_named(kPlanners, "strategy", name);
}

}  // namespace longseq
