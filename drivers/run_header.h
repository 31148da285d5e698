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

/// The option's value as a whole number. Throws std::invalid_argument, naming it, if it is not within the
/// limits.
std::int64_t whole_number(const CommandLine& line, std::string_view option, std::int64_t minimum,
                          std::int64_t maximum);

/// A digest of what makes two launches the same measurement: the cases, ranks, threads where cases leave them
/// open, and SIMD target. (Code and machine may change between launches: each stores its own environment.)
std::string configuration_id(const Sweep& sweep, int ranks, int default_threads);

RunHeader run_header(const Environment& environment, const Sweep& sweep, const CommandLine& line,
                     const Calibration& calibration, const std::string& thread_binding);

}  // namespace longseq
