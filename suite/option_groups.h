// The tables of options in the words of Boost.Program_options, which parses them and prints --help.
#pragma once

#include <boost/program_options/options_description.hpp>
#include <vector>

#include "suite/command_line.h"

namespace longseq {

/// Everything that may be written after the subcommand's name, under the headings of --help.
std::vector<boost::program_options::options_description> option_groups(const Command& command,
                                                                       const Choices& choices);

}  // namespace longseq
