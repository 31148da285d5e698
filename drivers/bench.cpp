// longseq bench: runs the cases of a sweep, one after the other, each from its inputs to its stored verdict.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "drivers/bench_case.h"
#include "drivers/commands.h"
#include "drivers/inputs.h"
#include "drivers/problem.h"
#include "drivers/run_header.h"
#include "kernels/simd.h"
#include "results/writer.h"
#include "suite/progress.h"
#include "suite/statistics.h"

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
                  {"output", "FILE", "results, HDF5", "results/bench.h5"},
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

Launch start_launch(const CommandLine& line) {
  Launch launch;
  MPI_Comm_rank(launch.comm, &launch.rank);
  MPI_Comm_size(launch.comm, &launch.ranks);
  launch.placement = find_placement(launch.comm);
  launch.data_dir = line.has("data-dir") ? std::filesystem::path(line.at("data-dir")) : default_data_dir();
  return launch;
}

void say(const Launch& launch, const std::string& text) {
  if (launch.rank == 0) {
    fmt::print("{}\n", text);
    std::fflush(stdout);
  }
}

void calibrate_and_begin(Launch& launch, const Sweep& sweep, const CommandLine& line, Writer& writer) {
  Environment environment = read_environment(launch.comm);
  environment.simd_target = simd_target();
  ThreadTeam team(threads_for(sweep.cases.front().threads, launch.placement), launch.placement);
  launch.calibration = calibrate(launch.comm, team);
  writer.begin(run_header(environment, sweep, line, launch.calibration, team.binding()));
}

}  // namespace

int run_bench(Arguments arguments) {
  const CommandLine line = parse_command_line(command(), arguments);
  Launch launch = start_launch(line);
  if (line.help) {
    if (launch.rank == 0) fmt::print("{}", help_text(command(), built_choices()));
    return 0;
  }
  force_simd_target(line.at("simd"));
  const Sweep sweep = make_sweep(line, built_choices());
  const auto cases = static_cast<std::int64_t>(sweep.cases.size());

  Writer writer(launch.comm, line.at("output"), configuration_id(sweep, launch.ranks));
  if (writer.complete()) {
    say(launch, fmt::format("{} is already complete: {} cases, nothing to do", line.at("output"),
                            writer.finished_cases()));
    return 0;
  }
  if (writer.finished_cases() > 0) {
    say(launch, fmt::format("{} has {} of {} cases: continuing after the last finished one",
                            line.at("output"), writer.finished_cases(), cases));
  }
  for (const Case& c : sweep.cases) expect_runnable(launch, c);  // all, before the first is measured
  calibrate_and_begin(launch, sweep, line, writer);

  Progress progress(stderr, progress_wanted(launch.rank, line.at("progress")));
  std::vector<SummaryRow> rows;
  for (std::int64_t index = writer.finished_cases(); index < cases; ++index) {
    const Case& c = sweep.cases[static_cast<std::size_t>(index)];
    progress.begin_case(static_cast<int>(index) + 1, static_cast<int>(cases), label(c));
    FinishedCase finished = run_case(launch, c, show_repetitions(progress, c));
    writer.append(finished.record);
    rows.push_back(std::move(finished.row));
  }
  writer.finish();
  progress.clear();
  say(launch, fmt::format("{}{} cases in {}", summary_table(rows), cases, line.at("output")));
  const bool wrong =
      std::any_of(rows.begin(), rows.end(), [](const SummaryRow& row) { return !row.verdict.valid; });
  return wrong ? 1 : 0;
}

}  // namespace longseq
