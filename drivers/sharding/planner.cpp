#include "drivers/sharding/planner.h"

#include <fmt/format.h>

#include <stdexcept>

namespace longseq {

const PlannerRow& planner(std::string_view name) {
  std::string names;
  for (const PlannerRow& row : kPlanners) {
    if (row.name == name) return row;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", row.name);
  }
  throw std::invalid_argument(fmt::format("strategy is '{}'; expected one of {}", name, names));
}

}  // namespace longseq
