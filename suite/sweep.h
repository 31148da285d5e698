// Sweep files, and the cases that they and the command line ask for. An option of a case may be a list; the
// product of all lists is run.
//
//   # a comment
//   heads = 8                   keys before the first section hold for every section
//   [long-local]                a section is a group of cases
//   pattern = local, segment
//   seq_len = 8k, 16k           sizes: k, M, G are 1024, 1024^2, 1024^3
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "suite/case.h"
#include "suite/command_line.h"

namespace longseq {

struct Sweep {
  std::vector<Case> cases;          // resolved and checked; equal cases appear once
  std::vector<std::string> groups;  // the section of each case; "" outside sections
  std::string source;               // the sweep file as it was read; "" without one
  std::string canonical;            // one line per case with every option: what identifies the configuration
};

/// The cases of a sweep file's text; `overrides` (of the command line) replace its keys in every group. Text
/// without sections is one group. Throws std::invalid_argument with file name and line.
Sweep parse_sweep(std::string_view text, const std::string& file_name, const Settings& overrides,
                  const Choices& choices);

/// The cases of a command line: those of config_option()'s file where it is given, else the product of the
/// settings. Throws std::runtime_error if the file cannot be read.
Sweep make_sweep(const CommandLine& line, const Choices& choices);

/// The one case of a command line whose options are no lists (`attend`, `plan`), neither resolved nor
/// checked: the caller may first fill in what an input file says. Throws std::invalid_argument for a list.
Case single_case(const CommandLine& line, const Choices& choices);

}  // namespace longseq
