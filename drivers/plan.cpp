// longseq plan: what a case would need on any number of ranks, and every reason why it cannot run. No MPI.
#include <fmt/format.h>
#include <malloc.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <deque>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <vector>

#include "drivers/commands.h"
#include "drivers/inputs.h"
#include "drivers/predicted_steps.h"
#include "drivers/problem.h"
#include "drivers/run_header.h"
#include "drivers/sharding/audit.h"
#include "drivers/sharding/machine.h"
#include "drivers/sharding/predict.h"
#include "drivers/strategies.h"
#include "suite/command_line.h"
#include "suite/memory.h"

namespace longseq {
namespace {

const Command& command() {
  static const Command kCommand{
      .name = "plan",
      .summary =
          "Dry run: memory per rank, bytes and messages, FLOPs, balance. Ends with status 1, giving every "
          "reason, if a "
          "case cannot run.",
      .options = {config_option(),
                  {"ranks", "P", "MPI ranks", "1"},
                  {"ranks-per-node", "N", "ranks that share a node's memory; 0: all of them", "0"},
                  {"node-memory", "GIB", "memory of a node in GiB; 0: what this one has available", "0"},
                  {"machine", "FILE", "predict times on this machine (suite/machines has examples)"},
                  {"steps", "FILE", "CSV file to write the predicted times of every rank and step to"}}};
  return kCommand;
}

/// All ranks' shares of the passes that a case runs.
struct Planned {
  std::vector<Problem> problems;                       // of the passes
  std::vector<PlanAudit> audits;                       // of the passes
  std::int64_t most_bytes = 0;                         // of one rank, scratch and inputs included
  std::vector<std::optional<Prediction>> predictions;  // of the passes, if they count and there is a machine
};

/// A plan of some megabytes comes and goes for each rank: else glibc would give its pages back to the system
/// each time, and touch as many new ones.
void keep_freed_memory() {
#ifdef __GLIBC__
  constexpr int kMost = 32 << 20;  // bytes, the most that glibc takes for the first
  mallopt(M_MMAP_THRESHOLD, kMost);
  mallopt(M_TRIM_THRESHOLD, kMost);
#endif
}

Planned plan_all(const Problem& problem, const Case& c, int ranks, const std::optional<Machine>& machine,
                 std::optional<PredictedSteps>& steps) {
  const int threads = static_cast<int>(std::max<std::int64_t>(c.threads, 1));
  const PassPlanner planner(c, problem);
  Planned planned;
  planned.problems.assign(planner.problems().begin(), planner.problems().end());
  planned.audits.resize(planned.problems.size());
  std::deque<Forecast> forecasts;
  for (std::size_t pass = 0; machine && pass < planned.problems.size(); ++pass)
    forecasts.emplace_back(*machine, ranks, c.overlap);
  std::mutex adding;
  tbb::parallel_for(0, ranks, [&](int rank) {
    const std::vector<PlannedPass> passes = planner.plan(rank);
    const std::int64_t bytes = rank_bytes(c, passes, threads);
    for (std::size_t pass = 0; pass < forecasts.size(); ++pass) {
      if (counts(c, passes[pass].problem.pass))
        forecasts[pass].add(rank, price(passes[pass].problem, *machine, passes[pass].plan));
    }
    const std::lock_guard lock(adding);
    planned.most_bytes = std::max(planned.most_bytes, bytes);
    for (std::size_t pass = 0; pass < passes.size(); ++pass)
      planned.audits[pass].add(passes[pass].audit, static_cast<std::int64_t>(passes[pass].plan.steps.size()));
  });
  for (std::size_t pass = 0; pass < planned.audits.size(); ++pass)
    expect_every_pair(planned.problems[pass], planned.audits[pass].pairs);
  planned.predictions.resize(planned.problems.size());
  for (std::size_t pass = 0; pass < forecasts.size(); ++pass) {
    const Pass of = planned.problems[pass].pass;
    if (!counts(c, of)) continue;
    Forecast::Seen seen;
    if (steps) seen = [&](const StepTime& time) { steps->add(label(c), name_of(of), time); };
    planned.predictions[pass] = forecasts[pass].of_slowest(seen);
  }
  return planned;
}

std::vector<std::string> why_not(const Case& c, const Planned& planned, int ranks_per_node,
                                 double node_bytes) {
  std::vector<std::string> reasons;
  try {
    if (c.dataset != "synthetic") expect_corpus(c, default_data_dir());
  } catch (const std::exception& error) {
    reasons.push_back(fmt::format("dataset: {}", error.what()));
  }
  const double wanted = static_cast<double>(planned.most_bytes) * ranks_per_node;
  if (wanted > node_bytes) {
    reasons.push_back(fmt::format(
        "memory: {} ranks of up to {} on one node need {}; it has {}; hint: more nodes or fewer ranks a "
        "node{}",
        ranks_per_node, gibibytes(static_cast<double>(planned.most_bytes)), gibibytes(wanted),
        gibibytes(node_bytes), c.strategy == "allgather" ? ", or --strategy ring: memory O(S/P)" : ""));
  }
  return reasons;
}

void print_pass(const Problem& problem, const PlanAudit& audit, int ranks) {
  const double flops = pass_flops(problem, audit.pairs);
  fmt::print("  {}\n", name_of(problem.pass));
  fmt::print("  steps                 {}\n", audit.steps);
  fmt::print("  bytes sent per rank   {} at most, {:.0f} on average\n", audit.most_bytes_sent,
             static_cast<double>(audit.bytes_sent) / ranks);
  fmt::print("  messages              {} in all\n", audit.messages_sent);
  fmt::print("  FLOPs                 {:.6g} (mask-exact), {:.6g} of the busiest rank\n", flops,
             pass_flops(problem, audit.most_pairs));
  fmt::print("  balance of work       {:.1f} % (mean over busiest rank: the ceiling of this layout)\n",
             100 * audit.balance());
  if (audit.bytes_sent > 0)
    fmt::print("  FLOPs per byte sent   {:.4g}\n", flops / static_cast<double>(audit.bytes_sent));
}

void print_prediction(const Prediction& prediction) {
  const RankTime& time = prediction.time;
  const auto percent = [&](double seconds) { return time.total > 0 ? 100 * seconds / time.total : 0; };
  fmt::print(
      "  predicted             {:.4g} s, rank {}: {:.1f} % computing, {:.1f} % copying, {:.1f} % waiting, "
      "{:.1f} % joining\n",
      time.total, prediction.rank, percent(time.compute), percent(time.copying), percent(time.waiting),
      percent(time.joining));
  if (!prediction.path) return;
  const CriticalPath& path = *prediction.path;
  fmt::print(
      "  critical path         {:.1f} % work, {:.1f} % messages, {:.1f} % joining; from rank to rank {} "
      "times\n",
      percent(path.work), percent(path.messages), percent(path.joining), path.hand_overs);
}

void print(const Case& c, const Planned& planned, int ranks, const std::optional<Machine>& machine) {
  fmt::print("{} on {} ranks\n", label(c), ranks);
  fmt::print("  tokens per rank       {:.1f}\n", static_cast<double>(c.seq_len) / static_cast<double>(ranks));
  fmt::print("  memory per rank       {} at most\n", gibibytes(static_cast<double>(planned.most_bytes)));
  for (std::size_t pass = 0; pass < planned.problems.size(); ++pass) {
    if (!counts(c, planned.problems[pass].pass)) continue;
    print_pass(planned.problems[pass], planned.audits[pass], ranks);
    if (planned.predictions[pass]) print_prediction(*planned.predictions[pass]);
  }
  if (!machine) return;
  double seconds = 0;
  for (const auto& prediction : planned.predictions) seconds += prediction ? prediction->time.total : 0;
  fmt::print("  predicted time        {:.4g} s of a repetition on {}\n", seconds, machine->name);
}

void expect_steps(const CommandLine& line, int ranks) {
  if (line.has("machine") && ranks <= kMostSimulated) return;
  throw std::invalid_argument(fmt::format(
      "--steps {} with {}; expected --machine FILE and at most {} ranks: more are not simulated together",
      line.at("steps"), line.has("machine") ? fmt::format("{} ranks", ranks) : "no machine", kMostSimulated));
}

}  // namespace

int run_plan(Arguments arguments) {
  const CommandLine line = parse_command_line(command(), arguments);
  if (line.help) {
    fmt::print("{}{}", help_text(command(), built_choices()), names_explained());
    return 0;
  }
  keep_freed_memory();
  const auto ranks = static_cast<int>(whole_number(line, "ranks", 1, 1 << 16));
  Sweep sweep = make_sweep(line, built_choices());
  expand_strategies(sweep, ranks);
  const auto per_node = static_cast<int>(whole_number(line, "ranks-per-node", 0, 1 << 20));
  const std::int64_t node_memory = whole_number(line, "node-memory", 0, 1 << 20);
  const double node_bytes = node_memory > 0 ? static_cast<double>(node_memory << 30)
                                            : static_cast<double>(available_memory_bytes());
  std::optional<PredictedSteps> steps;
  if (line.has("steps")) {
    expect_steps(line, ranks);
    steps.emplace(line.at("steps"));
  }
  bool all_can_run = true;
  for (Case c : sweep.cases) {
    const Problem problem = make_problem(c, ranks);
    std::optional<Machine> machine;
    if (line.has("machine")) machine = read_machine(line.at("machine"), c.dtype);
    if (c.strategy == kAuto) {
      if (!machine) {
        throw std::invalid_argument(
            "--strategy auto without a machine; expected --machine FILE, on which times are predicted; hint: "
            "suite/machines has examples");
      }
      const std::vector<std::string> names = valid_strategies(problem);
      c.strategy = names[fastest(predict_strategies(c, problem, *machine, {0, ranks}, names))];
    }
    const Planned planned = plan_all(problem, c, ranks, machine, steps);
    print(c, planned, ranks, machine);
    const std::vector<std::string> reasons =
        why_not(c, planned, per_node > 0 ? std::min(per_node, ranks) : ranks, node_bytes);
    for (const std::string& reason : reasons) fmt::print("  cannot run            {}\n", reason);
    if (reasons.empty()) fmt::print("  can run\n");
    all_can_run = all_can_run && reasons.empty();
  }
  return all_can_run ? 0 : 1;
}

}  // namespace longseq
