// The subcommands of `longseq`: adding one is one file and one row.
#pragma once

#include <array>
#include <span>
#include <string>
#include <string_view>

namespace longseq {

using Arguments = std::span<const std::string>;

/// Each gives the program's exit status. Bad input is thrown as std::invalid_argument, on one rank or on all.
int run_bench(Arguments arguments);
int run_attend(Arguments arguments);
int run_plan(Arguments arguments);
int run_calibrate(Arguments arguments);
int run_data(Arguments arguments);

struct Subcommand {
  std::string_view name;
  std::string_view summary;
  int (*run)(Arguments);
  bool uses_mpi;
};

inline constexpr std::array<Subcommand, 5> kSubcommands{{
    {"bench", "time cases across ranks, verify them, store every repetition", run_bench, true},
    {"attend", "apply sharded attention to the tensors of a file", run_attend, true},
    {"plan", "dry run for any number of ranks: memory, bytes, FLOPs, why a case cannot run", run_plan, false},
    {"calibrate", "measure the machine's ceilings", run_calibrate, true},
    {"data", "list, inspect and make datasets", run_data, false},
}};

}  // namespace longseq
