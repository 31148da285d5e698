// The arguments of a subcommand: its own options and, from the table of fields, those of a case.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "suite/case.h"

namespace longseq {

/// An option of a subcommand's own, beside those of a case.
struct Option {
  std::string name;      // "output"
  std::string argument;  // "FILE", as --help shows it; empty: a switch that takes no value
  std::string help;
  std::string standard = "";  // the value if it is not given; empty: none
};

struct Command {
  std::string name;     // "bench"
  std::string summary;  // what it does, one or several lines for --help
  std::vector<Option> options = {};
  std::vector<std::string> operands =
      {};                   // names of what comes without dashes: {"ACTION"}; all may be left out
  bool takes_cases = true;  // also the options of a case
};

/// Case options as written: field name -> its list of values, and where it was written, for errors.
struct Setting {
  std::vector<std::string> values;
  std::string where;  // what stands before a value in errors: "--seq-len " or "quick.cfg:12: seq_len = "
};
using Settings = std::map<std::string, Setting, std::less<>>;

/// Splits a list at its commas. Throws std::invalid_argument, beginning with `where`, for an empty value.
Setting make_setting(const std::string& text, const std::string& where);

struct CommandLine {
  bool help = false;
  std::map<std::string, std::string, std::less<>>
      options;  // the subcommand's own: given or standard; switches: "on"
  std::vector<std::string> operands;
  Settings settings;  // of cases
  std::string text;   // the arguments, quoted where needed, joined by blanks

  bool has(std::string_view name) const { return options.find(name) != options.end(); }
  /// The value; throws std::invalid_argument, naming the option, if it was not given and has no standard.
  const std::string& at(std::string_view name) const;
};

/// "--config FILE", for subcommands that run sweeps.
Option config_option();

/// Parses the arguments after the subcommand's name. Throws std::invalid_argument in one line: an unknown
/// option (and the nearest right one), one given twice, one without its value, an operand too many.
CommandLine parse_command_line(const Command& command, std::span<const std::string> arguments);

/// What `longseq COMMAND --help` prints, from the tables: grouped, with defaults and choices.
std::string help_text(const Command& command, const Choices& choices);

}  // namespace longseq
