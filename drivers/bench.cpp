// longseq bench: runs the cases of a sweep, one after the other, each from its inputs to its stored verdict.
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <ctime>

#include "drivers/bench_case.h"
#include "drivers/commands.h"
#include "drivers/inputs.h"
#include "drivers/problem.h"
#include "drivers/run_header.h"
#include "drivers/stored_rows.h"
#include "drivers/strategies.h"
#include "kernels/simd.h"
#include "results/agreement.h"
#include "results/writer.h"
#include "suite/code_version.h"
#include "suite/progress.h"
#include "suite/statistics.h"
#include "suite/watchdog.h"

namespace longseq {
namespace {

const Command& command() {
  static const Command kCommand{
      .name = "bench",
      .summary =
          "Times each case across all ranks, verifies its output in f64, and stores every repetition. "
          "Options of a case "
          "may be lists: their product is run. A file that an interrupted run left is continued.",
      .options = {config_option(),
                  {"output", "FILE", "results, HDF5 (default: results/bench-TIME.h5, a new one)"},
                  {"data-dir", "DIR", "where datasets lie (default: $LONGSEQ_DATA, else ./data)"},
                  {"progress", "WHEN", "show progress on stderr: auto, on or off", "auto"},
                  simd_option()}};
  return kCommand;
}

/// Shows a case's repetitions as they come.
std::function<void(const Measurement&)> show_repetitions(Progress& progress, const Case& c) {
  return [&progress, confidence = c.confidence](const Measurement& measurement) {
    const std::vector<double> seconds = measurement.figures();
    const double middle = median(seconds);
    std::optional<double> half_width;
    if (const auto interval = median_interval(seconds, confidence))
      half_width = relative_half_width(*interval, middle);
    progress.repetition(static_cast<int>(seconds.size()), middle, half_width);
  };
}

void say(const Launch& launch, const std::string& text) {
  if (launch.rank == 0) {
    fmt::print("{}\n", text);
    std::fflush(stdout);
  }
}

/// The file asked for, or a new one named after rank 0's clock.
std::string output_of(const CommandLine& line, const Launch& launch) {
  if (line.has("output")) return line.at("output");
  std::int64_t seconds = std::time(nullptr);
  MPI_Bcast(&seconds, 1, MPI_INT64_T, 0, launch.comm);
  return fmt::format("results/bench-{:%Y%m%dT%H%M%S}.h5", fmt::gmtime(static_cast<std::time_t>(seconds)));
}

void say_machine(const Launch& launch, const Environment& environment, const ThreadTeam& team) {
  const double peak = sum_over_ranks(launch.comm, launch.calibration.peak_f32);
  const double triad = sum_over_ranks(launch.comm, launch.calibration.triad);
  say(launch, fmt::format("longseq {}\n{}, {} nodes, {} ranks of {}, SIMD target {}\nFMA peak f32 {:.1f} "
                          "GFLOP/s, triad {:.1f} GB/s",
                          describe(code_version()), environment.cpu_model, environment.nodes, launch.ranks,
                          team.binding(), environment.simd_target, peak / 1e9, triad / 1e9));
}

/// Refuses before anything is measured.
Writer open_results(const Launch& launch, const std::string& output, const Sweep& sweep) {
  const LongWork file;
  return Writer(launch.comm, output, configuration_id(sweep, launch.ranks, threads_for(0, launch.placement)));
}

/// Calibrates with the threads of the first case to be measured, and starts or continues the file.
void calibrate_and_begin(Launch& launch, const Sweep& sweep, const CommandLine& line, Writer& writer) {
  Environment environment = read_environment(launch.comm);
  environment.simd_target = simd_target();
  const Case& first = sweep.cases[static_cast<std::size_t>(writer.finished_cases())];
  ThreadTeam team(threads_for(first.threads, launch.placement), launch.placement);
  launch.calibration = calibrate(launch.comm, team, environment.l3_bytes / launch.placement.ranks_on_node);
  say_machine(launch, environment, team);
  const LongWork file;
  writer.begin(run_header(environment, sweep, line, launch.calibration, team.binding()));
}

/// Prints the table of a whole file, those cases too that earlier launches measured. Gives the exit status: 1
/// if any is not valid.
int conclude(const Launch& launch, const std::string& output) {
  int invalid = 0;
  on_rank_0(launch.comm, [&] {
    const std::vector<SummaryRow> rows = summary_rows(Reader(output));
    fmt::print("{}{}", summary_table(rows), prediction_text(rows));
    invalid = std::any_of(rows.begin(), rows.end(), [](const SummaryRow& row) { return !row.verdict.valid; })
                  ? 1
                  : 0;
  });
  MPI_Bcast(&invalid, 1, MPI_INT, 0, launch.comm);
  say(launch, fmt::format("results in {}", output));
  return invalid;
}

}  // namespace

int run_bench(Arguments arguments) {
  const CommandLine line = parse_command_line(command(), arguments);
  Launch launch = start_launch();
  launch.data_dir = line.has("data-dir") ? std::filesystem::path(line.at("data-dir")) : default_data_dir();
  if (line.help) {
    if (launch.rank == 0) fmt::print("{}{}", help_text(command(), built_choices()), names_explained());
    return 0;
  }
  force_simd_target(line.at("simd"));
  Sweep sweep = make_sweep(line, built_choices());
  expand_strategies(sweep, launch.ranks);
  const auto cases = static_cast<std::int64_t>(sweep.cases.size());

  const std::string output = output_of(line, launch);
  Writer writer = open_results(launch, output, sweep);
  if (writer.complete()) {
    say(launch,
        fmt::format("{} is already complete: {} cases, nothing to do", output, writer.finished_cases()));
    return conclude(launch, output);
  }
  for (const Case& c : sweep.cases)  // all, before the first is measured
    expect_runnable(launch, c, make_problem(c, launch.ranks));
  if (writer.finished_cases() > 0) {
    say(launch, fmt::format("{} has {} of {} cases: continuing after the last finished one", output,
                            writer.finished_cases(), cases));
  }
  calibrate_and_begin(launch, sweep, line, writer);

  Progress progress(stderr, progress_wanted(launch.rank, line.at("progress")));
  for (std::int64_t index = writer.finished_cases(); index < cases; ++index) {
    const Case& asked = sweep.cases[static_cast<std::size_t>(index)];
    const Prospect prospect = foresee(launch, asked, make_problem(asked, launch.ranks));
    const Case& c = prospect.chosen;
    progress.begin_case(static_cast<int>(index) + 1, static_cast<int>(cases), label(c));
    CaseRecord record = run_case(launch, prospect, show_repetitions(progress, c));
    record.columns.insert(record.columns.begin(), {"group", sweep.groups[static_cast<std::size_t>(index)], "",
                                                   "section of the sweep file"});
    const LongWork file;
    writer.append(record);
  }
  const LongWork file;
  writer.finish();
  progress.clear();
  return conclude(launch, output);
}

}  // namespace longseq
