// When a case has been repeated often enough. Each rule is a small struct with a vote; a case's rules are a
// list. Rank 0 decides for all ranks: one decision per rank would deadlock.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "suite/case.h"

namespace longseq {

/// Repetitions so far: each one's seconds (the maximum over ranks, warm-up left out), and the seconds since
/// the case began.
struct Repetitions {
  std::span<const double> seconds;
  double elapsed = 0;
};

enum class Vote { go_on, content, stop_now };

/// Not before n repetitions.
struct MinimumRepetitions {
  std::int64_t n = 10;
};

/// Once the confidence interval of the median lies within ±fraction of the median.
struct IntervalWithin {
  double fraction = 0.02;
  double confidence = 0.95;
};

/// At latest after these seconds, content or not.
struct TimeCap {
  double seconds = 20;
};

using StoppingRule = std::variant<MinimumRepetitions, IntervalWithin, TimeCap>;

Vote vote(const StoppingRule& rule, const Repetitions& repetitions);

/// The rule in words, as results store it.
std::string describe(const StoppingRule& rule);

struct Decision {
  bool stop = false;
  bool converged = false;  // every rule was content
  std::string reason;      // why it stopped, or why it goes on
};

/// Stops when every rule is content (converged) or one rule insists (not converged).
Decision decide(std::span<const StoppingRule> rules, const Repetitions& repetitions);

std::string describe(std::span<const StoppingRule> rules);

/// The case's rules: its minimum of repetitions, ±2 % at its confidence, its time cap.
std::vector<StoppingRule> stopping_rules(const Case& c);

}  // namespace longseq
