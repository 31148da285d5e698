#include "suite/option_groups.h"

#include <fmt/format.h>

#include <boost/program_options/value_semantic.hpp>
#include <sstream>

#include "suite/spelling.h"

namespace longseq {
namespace {

namespace po = boost::program_options;

constexpr unsigned kLineLength = 100;
constexpr unsigned kLeastDescription = 60;

po::options_description section(const std::string& heading) {
  return po::options_description(heading, kLineLength, kLeastDescription);
}

void add(po::options_description& group, const std::string& name, const po::value_semantic* value,
         const std::string& help) {
  group.add_options()(name.c_str(), value, help.c_str());
}

/// A value that --help shows as "--name ARGUMENT (=standard)".
po::value_semantic* valued(const std::string& argument, const std::string& standard) {
  auto* value = po::value<std::string>()->value_name(argument);
  return standard.empty() ? value : value->default_value(standard);
}

po::value_semantic* bare() {
  return new po::untyped_value(/*zero_tokens=*/true);
}

/// What --help shows for the field's value.
std::string argument_of(const Field& field) {
  if (std::holds_alternative<bool Case::*>(field.member)) return "on|off";
  if (std::holds_alternative<std::int64_t Case::*>(field.member)) return "N";
  if (std::holds_alternative<double Case::*>(field.member)) return "X";
  return "NAME";
}

void add_field(po::options_description& group, const Field& field, const Choices& choices) {
  const std::string name = dashed(field.name);
  const std::string standard = field_text(Case{}, field);
  std::string help(field.help);
  if (field.is_flag) {
    add(group, name, bare(), help + (standard == "on" ? "; the default" : ""));
    add(group, fmt::format("no-{}", name), bare(), "the contrary");
    return;
  }
  if (const auto names = choices_of(field, choices); !names.empty()) help += ": " + any_of(names);
  add(group, name, valued(argument_of(field), standard), help);
}

}  // namespace

std::vector<po::options_description> option_groups(const Command& command, const Choices& choices) {
  std::vector<po::options_description> groups = {section("Options of " + command.name)};
  for (const Option& option : command.options) {
    add(groups[0], option.name, option.argument.empty() ? bare() : valued(option.argument, option.standard),
        option.help);
  }
  add(groups[0], "help,h", bare(), "this text");
  if (!command.takes_cases) return groups;
  std::string_view heading;
  for (const Field& field : case_fields()) {
    if (field.group != heading) groups.push_back(section(std::string(heading = field.group)));
    add_field(groups.back(), field, choices);
  }
  return groups;
}

std::string help_text(const Command& command, const Choices& choices) {
  std::ostringstream text;
  text << "usage: longseq " << command.name;
  for (const std::string& operand : command.operands) text << " [" << operand << "]";
  text << " [OPTION]...\n" << command.summary << "\n";
  for (const auto& group : option_groups(command, choices)) text << "\n" << group;
  if (command.takes_cases) {
    text << "\nNumbers may end in k, M or G: 1024, 1024^2, 1024^3. In sweeps every option of a case may be a "
            "list, "
            "\nseparated by commas (--seq-len 4k,8k); the product of all lists is run.\n";
  }
  return text.str();
}

}  // namespace longseq
