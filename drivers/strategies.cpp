#include "drivers/strategies.h"

#include <algorithm>
#include <limits>
#include <set>

#include "drivers/sharding/planner.h"
#include "drivers/sharding/predict.h"

namespace longseq {

std::vector<std::string> valid_strategies(const Problem& forward) {
  std::vector<std::string> names;
  for (const PlannerRow& row : kPlanners) {
    if (row.name == "usp") {
      const int degree = usp_degree(forward);
      if (forward.layout.ranks % degree != 0 || degree == 1 || degree == forward.layout.ranks) continue;
    }
    names.emplace_back(row.name);
  }
  return names;
}

void expand_strategies(Sweep& sweep, int ranks) {
  Sweep expanded;
  expanded.source = sweep.source;
  std::set<std::string> seen;
  const auto add = [&](const Case& c, const std::string& group) {
    const std::string text = canonical_text(c) + "\n";
    if (!seen.insert(text).second) return;
    expanded.canonical += text;
    expanded.cases.push_back(c);
    expanded.groups.push_back(group);
  };
  for (std::size_t i = 0; i < sweep.cases.size(); ++i) {
    const Case& c = sweep.cases[i];
    if (c.strategy != kAll) {
      add(c, sweep.groups[i]);
      continue;
    }
    for (const std::string& name : valid_strategies(make_problem(c, ranks))) {
      Case own = c;
      own.strategy = name;
      resolve(own);
      add(own, sweep.groups[i]);
    }
  }
  sweep = std::move(expanded);
}

double predict_case(const Case& c, const Problem& forward, const Machine& machine) {
  const PlannerRow& strategy = planner(c.strategy);
  double seconds = 0;
  for (const Pass pass : passes_run(c)) {
    if (!counts(c, pass)) continue;
    Problem problem = forward;
    problem.pass = pass;
    seconds += predict_seconds(
        problem, machine, [&](int rank) { return strategy.plan(problem, rank); }, c.overlap);
  }
  return seconds;
}

std::string best_strategy(const Case& c, const Problem& forward, const Machine& machine,
                          const std::vector<std::string>& names) {
  std::string best;
  double least = std::numeric_limits<double>::infinity();
  Case tried = c;
  for (const std::string& name : names) {
    tried.strategy = name;
    const double seconds = predict_case(tried, forward, machine);
    if (seconds < least) {
      least = seconds;
      best = name;
    }
  }
  return best;
}

}  // namespace longseq
