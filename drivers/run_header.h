// What a launch is: options that several subcommands share, the configuration's identity, the header of its
// results.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "results/record.h"
#include "suite/calibrate.h"
#include "suite/command_line.h"
#include "suite/environment.h"
#include "suite/sweep.h"

namespace longseq {

/// --simd TARGET.
Option simd_option();

/// The option's value as a whole number of at least `minimum`. Throws std::invalid_argument, naming it.
std::int64_t whole_number(const CommandLine& line, std::string_view option, std::int64_t minimum);

/// A digest of everything that makes two launches the same measurement: the cases, ranks and SIMD target.
std::string configuration_id(const Sweep& sweep, int ranks);

RunHeader run_header(const Environment& environment, const Sweep& sweep, const CommandLine& line,
                     const Calibration& calibration, const std::string& thread_binding);

}  // namespace longseq
