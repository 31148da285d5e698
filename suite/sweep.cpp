#include "suite/sweep.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/program_options/errors.hpp>
#include <boost/program_options/parsers.hpp>
#include <fstream>
#include <set>
#include <sstream>
#include <stdexcept>

#include "suite/spelling.h"

namespace longseq {
namespace {

namespace po = boost::program_options;

constexpr std::size_t kMostCases = 100000;

struct Section {
  std::string name;
  std::string where;  // for errors about the section as a whole
  Settings settings;
};

std::string trimmed(std::string text) {
  text.erase(std::min(text.find('#'), text.size()));
  const auto first = text.find_first_not_of(" \t\r");
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

/// One line that is no section heading, by Boost's syntax of configuration files.
std::pair<std::string, std::string> parse_key(const std::string& line, const std::string& place) {
  try {
    std::istringstream stream(line);
    const auto parsed = po::parse_config_file(stream, po::options_description(), /*allow_unregistered=*/true);
    return {parsed.options.at(0).string_key, parsed.options.at(0).value.at(0)};
  } catch (const po::invalid_syntax&) {
    throw std::invalid_argument(fmt::format(
        "{}: {}: expected key = value, value... or [section]; hint: comments begin with #", place, line));
  }
}

void add_key(Settings& settings, const std::string& line, const std::string& place) {
  const auto [key, value] = parse_key(line, place);
  const Field* field = find_field(key);
  if (field == nullptr) {
    std::vector<std::string> names;
    for (const Field& known : case_fields()) names.emplace_back(known.name);
    throw std::invalid_argument(
        fmt::format("{}: {}: no such key; hint: did you mean {}?", place, key, nearest(key, names)));
  }
  if (!settings.emplace(field->name, make_setting(value, fmt::format("{}: {} = ", place, key))).second) {
    throw std::invalid_argument(fmt::format(
        "{}: {}: given twice; expected once per section; hint: list its values with commas", place, key));
  }
}

/// The groups of a sweep file: its sections, each with the keys before the first one where it has not its
/// own.
std::vector<Section> parse_groups(std::string_view text, const std::string& file_name) {
  Section top{"", file_name, {}};
  std::vector<Section> sections;
  std::istringstream stream{std::string(text)};
  int number = 0;
  for (std::string raw; std::getline(stream, raw);) {
    const std::string line = trimmed(raw), place = fmt::format("{}:{}", file_name, ++number);
    if (line.empty()) continue;
    if (line.front() != '[' || line.back() != ']') {
      add_key(sections.empty() ? top.settings : sections.back().settings, line, place);
      continue;
    }
    const std::string name = line.substr(1, line.size() - 2);
    if (std::any_of(sections.begin(), sections.end(),
                    [&](const Section& section) { return section.name == name; })) {
      throw std::invalid_argument(
          fmt::format("{}: [{}]: a section of that name came before; expected each once", place, name));
    }
    sections.push_back({name, fmt::format("{} [{}]", place, name), {}});
  }
  if (sections.empty()) return {top};
  for (Section& section : sections) section.settings.insert(top.settings.begin(), top.settings.end());
  return sections;
}

std::vector<Case> vary(const std::vector<Case>& cases, const Field& field, const Setting& setting,
                       const Choices& choices) {
  std::vector<Case> varied;
  if (cases.size() * setting.values.size() > kMostCases) {
    throw std::invalid_argument(
        fmt::format("{}{}: {} cases and more; expected at most {}; hint: shorten the lists", setting.where,
                    setting.values.front(), cases.size() * setting.values.size(), kMostCases));
  }
  std::set<std::string> seen;
  for (const Case& c : cases) {
    seen.clear();
    for (const std::string& value : setting.values) {
      varied.push_back(c);
      set_field(varied.back(), field, value, choices, setting.where + value);
      if (!seen.insert(field_text(varied.back(), field)).second) {
        throw std::invalid_argument(
            fmt::format("{}{}: this value is given twice; expected each once", setting.where, value));
      }
    }
  }
  return varied;
}

std::vector<Case> product(const Section& section, const Choices& choices) {
  std::vector<Case> cases(1);
  for (const Field& field : case_fields()) {
    const auto setting = section.settings.find(field.name);
    if (setting != section.settings.end()) cases = vary(cases, field, setting->second, choices);
  }
  return cases;
}

void add_cases(Sweep& sweep, std::set<std::string>& seen, const Section& section, const Choices& choices) {
  for (Case& c : product(section, choices)) {
    resolve(c);
    try {
      check_case(c);
    } catch (const std::invalid_argument& error) {
      if (section.where.empty()) throw;
      throw std::invalid_argument(fmt::format("{}: {}", section.where, error.what()));
    }
    const std::string text = canonical_text(c) + "\n";
    if (!seen.insert(text).second) continue;
    sweep.canonical += text;
    sweep.cases.push_back(std::move(c));
    sweep.groups.push_back(section.name);
  }
}

}  // namespace

Sweep parse_sweep(std::string_view text, const std::string& file_name, const Settings& overrides,
                  const Choices& choices) {
  Sweep sweep;
  std::set<std::string> seen;
  sweep.source = text;
  for (Section& section : parse_groups(text, file_name)) {
    for (const auto& [name, setting] : overrides) section.settings[name] = setting;
    add_cases(sweep, seen, section, choices);
  }
  return sweep;
}

Sweep make_sweep(const CommandLine& line, const Choices& choices) {
  if (!line.has("config")) {
    Sweep sweep;
    std::set<std::string> seen;
    add_cases(sweep, seen, {"", "", line.settings}, choices);
    return sweep;
  }
  const std::string& name = line.at("config");
  std::ifstream file(name, std::ios::binary);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf())) {
    throw std::runtime_error(
        fmt::format("--config {}: cannot be read, or is empty; expected a sweep file; hint: "
                    "suite/experiments has examples",
                    name));
  }
  return parse_sweep(text.str(), name, line.settings, choices);
}

Case single_case(const CommandLine& line, const Choices& choices) {
  for (const auto& [name, setting] : line.settings) {
    if (setting.values.size() > 1) {
      throw std::invalid_argument(fmt::format("--{}: {} values; expected one; hint: only sweeps take lists",
                                              dashed(name), setting.values.size()));
    }
  }
  return product({"", "", line.settings}, choices).front();
}

}  // namespace longseq
