#include "drivers/strategies.h"

#include <algorithm>
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

std::vector<double> predict_strategies(const Case& c, const Problem& forward, const Machine& machine,
                                       Interval ranks, const std::vector<std::string>& names) {
  std::vector<double> seconds;
  for (const std::string& name : names) {
    const PlannerRow& strategy = planner(name);
    seconds.push_back(0);
    for (const Pass pass : passes_run(c)) {
      if (!counts(c, pass)) continue;
      Problem problem = forward;
      problem.pass = pass;
      seconds.back() += predict_seconds(problem, machine, ranks, strategy.prepare(problem), c.overlap);
    }
  }
  return seconds;
}

std::size_t fastest(const std::vector<double>& seconds) {
  return static_cast<std::size_t>(std::min_element(seconds.begin(), seconds.end()) - seconds.begin());
}

}  // namespace longseq
