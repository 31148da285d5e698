// Choosing among the strategies: those that can run a case, what each is predicted to take, the best.
#pragma once

#include <string>
#include <vector>

#include "drivers/problem.h"
#include "drivers/sharding/machine.h"
#include "suite/sweep.h"

namespace longseq {

/// Names that stand for one of the planners, or all of them.
inline constexpr const char* kAuto = "auto";
inline constexpr const char* kAll = "all";

/// The strategies that can run the problem on its ranks, each exchange once: usp only where it is neither a
/// ring nor Ulysses.
std::vector<std::string> valid_strategies(const Problem& forward);

/// Replaces each case with the strategy `all` by one for each valid strategy.
void expand_strategies(Sweep& sweep, int ranks);

/// Seconds of one repetition of the case, whose strategy is a planner's.
double predict_case(const Case& c, const Problem& forward, const Machine& machine);

/// That of some strategies which is predicted to be the fastest.
std::string best_strategy(const Case& c, const Problem& forward, const Machine& machine,
                          const std::vector<std::string>& names);

}  // namespace longseq
