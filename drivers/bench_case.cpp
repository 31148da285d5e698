#include "drivers/bench_case.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "drivers/case_record.h"
#include "drivers/execution/executor.h"
#include "drivers/inputs.h"
#include "drivers/problem.h"
#include "drivers/sharding/audit.h"
#include "drivers/sharding/planner.h"
#include "results/agreement.h"
#include "suite/clean.h"
#include "suite/statistics.h"
#include "suite/verify.h"

namespace longseq {
namespace {

constexpr int kWarmups = 2;
constexpr int kControlRepetitions = 5;
constexpr double kPeakSeconds = 0.06;

std::int64_t peak_memory_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::int64_t>(usage.ru_maxrss) * 1024;
}

PhaseTimes phases(const PassTimes& times) {
  return {times.compute, times.communication, times.waiting, times.merging, 0.0};
}

/// Seconds per repetition that this rank spends on messages (posting and waiting), median.
double message_seconds(const std::vector<PhaseTimes>& repetitions) {
  std::vector<double> seconds;
  for (const PhaseTimes& times : repetitions) seconds.push_back(times[1] + times[2]);
  return median(seconds);
}

/// The share of communication time that computing hid: 1 − exposed / all, the latter from runs with overlap
/// off. NaN where nothing is sent. Collective.
template <class T>
double overlap_efficiency(const Launch& launch, Executor<T>& control, const Measurement& measurement,
                          ThreadTeam& team) {
  std::vector<PhaseTimes> overlapped, in_turn;
  for (const Repetition& repetition : measurement.repetitions) {
    if (!repetition.warmup) overlapped.push_back(repetition.phases);
  }
  for (int i = 0; i < kControlRepetitions; ++i) {
    MPI_Barrier(launch.comm);
    in_turn.push_back(phases(team.run([&] { return control.forward(); })));
  }
  const double exposed = sum_over_ranks(launch.comm, message_seconds(overlapped));
  const double all = sum_over_ranks(launch.comm, message_seconds(in_turn));
  return all > 0 ? 1 - exposed / all : std::numeric_limits<double>::quiet_NaN();
}

/// Whether the counted traffic of `passes` passes is the plan's; collective.
bool traffic_as_planned(MPI_Comm comm, const RankAudit& planned, const Traffic& traffic,
                        std::int64_t passes) {
  int same = 1;
  for (std::size_t peer = 0; peer < planned.bytes_to.size(); ++peer) {
    if (traffic.bytes_to[peer] != passes * planned.bytes_to[peer]) same = 0;
    if (traffic.messages_to[peer] != passes * planned.messages_to[peer]) same = 0;
  }
  std::int64_t totals[2] = {planned.bytes_sent() * passes, traffic.bytes_received};
  MPI_Allreduce(MPI_IN_PLACE, totals, 2, MPI_INT64_T, MPI_SUM, comm);
  MPI_Allreduce(MPI_IN_PLACE, &same, 1, MPI_INT, MPI_MIN, comm);
  return same != 0 && totals[0] == totals[1];
}

template <class T>
FinishedCase run_typed(const Launch& launch, const Case& c,
                       const std::function<void(const Measurement&)>& seen) {
  const int threads = threads_for(c.threads, launch.placement);
  const Problem problem = make_problem(c, launch.ranks);
  const RankPlan plan = planner(c.strategy).plan(problem, launch.rank);
  const RankAudit planned = audit(problem, plan);
  const Shard shard = problem.layout.shard(launch.rank);
  ThreadTeam team(threads, launch.placement);

  LayerInputs<T> inputs;
  on_all_ranks(launch.comm,
               [&] { inputs = team.run([&] { return make_inputs<T>(c, shard, launch.data_dir); }); });
  Tensor<T> o(inputs.q.shape()), lse({c.batch, c.heads, inputs.q.shape().tokens, 1});
  const ShardTensors<T> tensors{inputs.q.view(), inputs.keys.view(), o.view(), lse.view()};

  CaseFacts facts;
  const double peak_before = fma_peak(launch.comm, team, c.dtype == "f64", kPeakSeconds);
  const CpuTime cpu_before = read_cpu_time(launch.comm, launch.placement);
  Executor<T> executor(launch.comm, problem, plan, inputs.bias(), tensors, c.overlap);
  const auto pass = [&] { return phases(team.run([&] { return executor.forward(); })); };
  facts.measurement = measure(launch.comm, stopping_rules(c), kWarmups, pass, seen);
  const CpuTime cpu_after = read_cpu_time(launch.comm, launch.placement);
  const double peak_after = fma_peak(launch.comm, team, c.dtype == "f64", kPeakSeconds);

  // The output is the last repetition's; the control below would write the same tensors.
  const ShardOutput<T> output{
      {shard.begin(), shard.end()}, inputs.q.view(), inputs.k(), inputs.v(), o.view(), lse.view()};
  facts.errors = recompute(launch.comm, problem.pattern, inputs.bias(), output);
  facts.error_bound = error_bound(unit_roundoff<T>(), c.head_dim, c.seq_len, facts.errors.largest_score);
  facts.passes = static_cast<std::int64_t>(facts.measurement.repetitions.size());
  facts.traffic = executor.traffic();
  facts.traffic_as_planned = traffic_as_planned(launch.comm, planned, facts.traffic, facts.passes);
  facts.overlap_efficiency = std::numeric_limits<double>::quiet_NaN();
  if (c.overlap && launch.ranks > 1) {
    Executor<T> control(launch.comm, problem, plan, inputs.bias(), tensors, false);
    facts.overlap_efficiency = overlap_efficiency(launch, control, facts.measurement, team);
  }

  facts.threads = threads;
  facts.planned = planned;
  facts.flops = forward_flops(problem, planned.pairs);
  facts.peak_before = sum_over_ranks(launch.comm, peak_before);
  facts.peak_after = sum_over_ranks(launch.comm, peak_after);
  facts.projection_time = inputs.projection_time;
  facts.peak_memory = peak_memory_bytes();
  facts.exchange_bandwidth = exchange_bandwidth(launch.calibration);
  facts.timer = launch.calibration.timer;
  const Conditions conditions{
      .ranks_on_node = launch.placement.ranks_on_node,
      .threads_per_rank = threads,
      .node_cores = launch.placement.node_cores,
      .exclusive = launch.placement.exclusive,
      .busy_by_others = busy_by_others(cpu_before, cpu_after),
      .ceilings = {{fmt::format("FMA peak {}", c.dtype), facts.peak_before, facts.peak_after}}};
  facts.breaches = gather_reasons(launch.comm, check_clean(conditions));
  return finish_case(launch, c, facts);
}

}  // namespace

void expect_runnable(const Launch& launch, const Case& c) {
  if (c.dataset != "synthetic") on_all_ranks(launch.comm, [&] { expect_corpus(c, launch.data_dir); });
  const Problem problem = make_problem(c, launch.ranks);
  const RankPlan plan = planner(c.strategy).plan(problem, launch.rank);
  std::int64_t pairs = audit(problem, plan).pairs;
  MPI_Allreduce(MPI_IN_PLACE, &pairs, 1, MPI_INT64_T, MPI_SUM, launch.comm);
  expect_every_pair(problem, pairs);
  expect_memory(launch.comm, rank_bytes(problem, plan, c, threads_for(c.threads, launch.placement)));
}

FinishedCase run_case(const Launch& launch, const Case& c,
                      const std::function<void(const Measurement&)>& seen) {
  return c.dtype == "f64" ? run_typed<double>(launch, c, seen) : run_typed<float>(launch, c, seen);
}

}  // namespace longseq
