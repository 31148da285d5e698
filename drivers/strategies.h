// Choosing among the strategies: those that can run a case, what each is predicted to take, the best.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "drivers/problem.h"
#include "drivers/sharding/machine.h"
#include "kernels/positions.h"
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

/// Predicted seconds of one repetition of the case by each of some strategies, on the slowest of `ranks`: all
/// of them, or some, each as if it never waited for a late one.
std::vector<double> predict_strategies(const Case& c, const Problem& forward, const Machine& machine,
                                       Interval ranks, const std::vector<std::string>& names);

/// The number of the least.
std::size_t fastest(const std::vector<double>& seconds);

}  // namespace longseq
