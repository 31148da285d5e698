// Reads the value of a field, and says what was expected where it cannot.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <optional>
#include <stdexcept>

#include "datasets/corpus.h"
#include "suite/case.h"
#include "suite/spelling.h"

namespace longseq {
namespace {

using Names = std::vector<std::string>;

[[noreturn]] void refuse(std::string_view where, const std::string& expected) {
  throw std::invalid_argument(fmt::format("{}: {}", where, expected));
}

std::optional<std::int64_t> parse_whole(std::string_view text) {
  std::int64_t unit = 1;
  if (!text.empty()) {
    const auto suffix = std::string_view("kmg").find(static_cast<char>(std::tolower(text.back())));
    if (suffix != std::string_view::npos) {
      unit = std::int64_t{1} << (10 * (suffix + 1));
      text.remove_suffix(1);
    }
  }
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  if (__builtin_mul_overflow(value, unit, &value)) return std::nullopt;
  return value;
}

std::optional<double> parse_real(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::int64_t parse_whole(const Field& field, std::string_view text, const Choices& choices,
                         std::string_view where) {
  const auto value = parse_whole(text);
  const auto least = static_cast<std::int64_t>(field.minimum),
             most = static_cast<std::int64_t>(field.maximum);
  if (!value || *value < least || *value > most) {
    refuse(where, fmt::format("expected a whole number ≥ {} and ≤ {}; hint: {} is {}; 4096 may be written 4k",
                              least, most, dashed(field.name), field.help));
  }
  const auto& built = choices.strategies;
  if (*value != 0 && !field.needs_strategy.empty() &&
      std::find(built.begin(), built.end(), field.needs_strategy) == built.end()) {
    refuse(where, fmt::format("strategy {} is not built yet in this release; available: {}",
                              field.needs_strategy, any_of(built)));
  }
  return *value;
}

bool parse_switch(std::string_view text, std::string_view where) {
  if (text == "on" || text == "true" || text == "yes") return true;
  if (text == "off" || text == "false" || text == "no") return false;
  refuse(where, "expected on or off; hint: true, false, yes and no are understood too");
}

void check_dataset(const std::string& text, std::string_view where) {
  if (text.find_first_of("./:") != std::string::npos || text == "synthetic" || find_corpus(text)) return;
  Names names = {"synthetic"};
  for (const CorpusRow& row : kCorpora) names.emplace_back(row.name);
  refuse(where, fmt::format("no such dataset; expected {} or a path (./FILE); hint: the nearest is {}",
                            any_of(names), nearest(text, names)));
}

std::string parse_name(const Field& field, std::string_view text, const Choices& choices,
                       std::string_view where) {
  std::string name(text);
  const Names built = choices_of(field, choices);
  if (field.name == "dataset") check_dataset(name, where);
  if (built.empty() || std::find(built.begin(), built.end(), name) != built.end()) return name;
  if (std::find(field.planned.begin(), field.planned.end(), name) != field.planned.end()) {
    refuse(where, fmt::format("not built yet in this release; available: {}", any_of(built)));
  }
  refuse(where, fmt::format("expected {}; hint: the nearest is {}", any_of(built), nearest(name, built)));
}

}  // namespace

void set_field(Case& c, const Field& field, std::string_view text, const Choices& choices,
               std::string_view where) {
  if (const auto* member = std::get_if<std::string Case::*>(&field.member)) {
    c.** member = parse_name(field, text, choices, where);
  } else if (const auto* flag = std::get_if<bool Case::*>(&field.member)) {
    c.** flag = parse_switch(text, where);
  } else if (const auto* whole = std::get_if<std::int64_t Case::*>(&field.member)) {
    c.** whole = parse_whole(field, text, choices, where);
  } else {
    const auto value = parse_real(text);
    if (!value || *value < field.minimum || *value > field.maximum) {
      refuse(where, fmt::format("expected a number ≥ {} and ≤ {}; hint: {} is {}", field.minimum,
                                field.maximum, dashed(field.name), field.help));
    }
    c.*std::get<double Case::*>(field.member) = *value;
  }
}

}  // namespace longseq
