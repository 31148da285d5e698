#include "suite/command_line.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <boost/program_options.hpp>
#include <sstream>
#include <stdexcept>

#include "suite/option_groups.h"
#include "suite/spelling.h"

namespace longseq {
namespace {

namespace po = boost::program_options;

[[noreturn]] void refuse_missing(const std::string& option) {
  throw std::invalid_argument(fmt::format("{}: expected a value after it; hint: see --help", option));
}

[[noreturn]] void refuse_unknown(const std::string& written, const po::options_description& all) {
  std::vector<std::string> names;
  for (const auto& option : all.options()) names.push_back(fmt::format("--{}", option->long_name()));
  const std::string name = written.substr(0, written.find('='));
  throw std::invalid_argument(
      fmt::format("{}: no such option; hint: did you mean {}?", name, nearest(name, names)));
}

std::vector<po::option> parse(const std::vector<std::string>& arguments, const po::options_description& all) {
  namespace style = po::command_line_style;
  try {
    return po::command_line_parser(arguments)
        .options(all)
        .style(style::allow_long | style::long_allow_next | style::long_allow_adjacent | style::allow_short |
               style::allow_dash_for_short | style::short_allow_next)
        .run()
        .options;
  } catch (const po::unknown_option& error) {
    refuse_unknown(error.get_option_name(), all);
  } catch (const po::invalid_command_line_syntax& error) {
    if (error.kind() != po::invalid_syntax::extra_parameter) refuse_missing(error.get_option_name());
    throw std::invalid_argument(
        fmt::format("{}: expected no value, this is a switch; hint: leave out what follows the =",
                    error.get_option_name()));
  }
}

std::vector<std::string> split_list(const std::string& text, const std::string& where) {
  std::vector<std::string> values;
  std::istringstream stream(text + ",");
  for (std::string value; std::getline(stream, value, ',');) {
    const auto first = value.find_first_not_of(" \t"), last = value.find_last_not_of(" \t");
    if (first == std::string::npos) {
      throw std::invalid_argument(
          fmt::format("{}{}: a value is missing; expected one or several, separated by "
                      "commas; hint: 4096,8192",
                      where, text));
    }
    values.push_back(value.substr(first, last - first + 1));
  }
  return values;
}

std::string quoted(const std::string& argument) {
  return argument.find_first_of(" \t\"'$") == std::string::npos && !argument.empty()
             ? argument
             : fmt::format("'{}'", argument);
}

void take_setting(Settings& settings, const std::string& name, const std::string& value) {
  const bool negated = !find_field(name);  // only "no-FLAG" is none, among what has been parsed
  const Field& field = *find_field(negated ? name.substr(3) : name);
  const std::string text = field.is_flag ? (negated ? "off" : "on") : value;
  const std::string where = fmt::format("--{}{}", name, field.is_flag ? ": " : " ");
  if (!settings.emplace(field.name, make_setting(text, where)).second) {
    throw std::invalid_argument(
        fmt::format("--{}: given twice; expected once; hint: several values are a list, with commas", name));
  }
}

void take_option(CommandLine& line, const Command& command, const std::string& name,
                 const std::string& value) {
  if (value.starts_with("--"))
    refuse_missing(fmt::format("--{}", name));  // Boost took the next option for the value
  const bool is_own = std::any_of(command.options.begin(), command.options.end(),
                                  [&](const Option& option) { return option.name == name; });
  if (name == "help") {
    line.help = true;
  } else if (!is_own) {
    take_setting(line.settings, name, value);
  } else if (!line.options.emplace(name, value).second) {
    throw std::invalid_argument(fmt::format("--{}: given twice; expected once", name));
  }
}

void take_operand(CommandLine& line, const Command& command, const std::string& value) {
  if (line.operands.size() == command.operands.size()) {
    throw std::invalid_argument(
        fmt::format("{}: not expected here; {} takes {} words without dashes; hint: options begin with --",
                    value, command.name, command.operands.size()));
  }
  line.operands.push_back(value);
}

}  // namespace

Setting make_setting(const std::string& text, const std::string& where) {
  return {split_list(text, where), where};
}

const std::string& CommandLine::at(std::string_view name) const {
  const auto found = options.find(name);
  if (found == options.end()) {
    throw std::invalid_argument(
        fmt::format("--{}: missing; expected it to be given; hint: see --help", name));
  }
  return found->second;
}

Option config_option() {
  return {"config", "FILE", "sweep file: key = value, value...; the options below override its keys"};
}

CommandLine parse_command_line(const Command& command, std::span<const std::string> arguments) {
  po::options_description all;
  for (const auto& group : option_groups(command, {})) all.add(group);
  CommandLine line;
  std::vector<std::string> words;
  for (const std::string& argument : arguments) words.push_back(quoted(argument));
  line.text = fmt::format("{}", fmt::join(words, " "));
  for (const po::option& option : parse({arguments.begin(), arguments.end()}, all)) {
    if (option.position_key >= 0) {
      take_operand(line, command, option.value.at(0));
    } else {
      take_option(line, command, option.string_key, option.value.empty() ? "on" : option.value[0]);
    }
  }
  for (const Option& option : command.options) {
    if (!option.standard.empty()) line.options.emplace(option.name, option.standard);
  }
  return line;
}

}  // namespace longseq
