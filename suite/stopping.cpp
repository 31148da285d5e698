#include "suite/stopping.h"

#include <fmt/format.h>

#include <algorithm>

#include "suite/statistics.h"

namespace longseq {
namespace {

Vote vote_of(const MinimumRepetitions& rule, const Repetitions& repetitions) {
  return std::ssize(repetitions.seconds) >= rule.n ? Vote::content : Vote::go_on;
}

Vote vote_of(const IntervalWithin& rule, const Repetitions& repetitions) {
  const auto interval = median_interval(repetitions.seconds, rule.confidence);
  if (!interval) return Vote::go_on;
  const double half_width = relative_half_width(*interval, median(repetitions.seconds));
  return half_width <= rule.fraction ? Vote::content : Vote::go_on;
}

Vote vote_of(const TimeCap& rule, const Repetitions& repetitions) {
  return repetitions.elapsed >= rule.seconds ? Vote::stop_now : Vote::content;
}

std::string words(const MinimumRepetitions& rule) {
  return fmt::format("at least {} repetitions", rule.n);
}

std::string words(const IntervalWithin& rule) {
  return fmt::format("{:g} % confidence interval of the median within ±{:g} % of it", 100 * rule.confidence,
                     100 * rule.fraction);
}

std::string words(const TimeCap& rule) {
  return fmt::format("at most {:g} s", rule.seconds);
}

}  // namespace

Vote vote(const StoppingRule& rule, const Repetitions& repetitions) {
  return std::visit([&](const auto& r) { return vote_of(r, repetitions); }, rule);
}

std::string describe(const StoppingRule& rule) {
  return std::visit([](const auto& r) { return words(r); }, rule);
}

Decision decide(std::span<const StoppingRule> rules, const Repetitions& repetitions) {
  const StoppingRule* insists = nullptr;
  std::string unmet;
  for (const StoppingRule& rule : rules) {
    const Vote v = vote(rule, repetitions);
    if (v == Vote::stop_now) insists = &rule;
    if (v == Vote::go_on) unmet += (unmet.empty() ? "" : "; ") + describe(rule);
  }
  if (unmet.empty())
    return {true, true, describe(rules)};  // a cap reached with the last repetition harms nothing
  if (insists == nullptr) return {false, false, "not yet: " + unmet};
  return {true, false,
          fmt::format("{} repetitions ({}) did not reach: {}", repetitions.seconds.size(), describe(*insists),
                      unmet)};
}

std::string describe(std::span<const StoppingRule> rules) {
  std::string text;
  for (const StoppingRule& rule : rules) text += (text.empty() ? "" : "; ") + describe(rule);
  return text;
}

std::vector<StoppingRule> stopping_rules(const Case& c) {
  return {MinimumRepetitions{c.repetitions}, IntervalWithin{.confidence = c.confidence}, TimeCap{c.max_time}};
}

}  // namespace longseq
