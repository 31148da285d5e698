#include "drivers/bench_case.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

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
  PhaseTimes result{};
  result[kCompute] = times.compute;
  result[kCommunication] = times.communication;
  result[kWaiting] = times.waiting;
  result[kMerging] = times.merging;
  return result;
}

/// Seconds per repetition that this rank spends on messages, median.
double message_seconds(const Measurement& measurement) {
  std::vector<double> seconds;
  for (const Repetition& repetition : measurement.repetitions) {
    if (!repetition.warmup)
      seconds.push_back(repetition.phases[kCommunication] + repetition.phases[kWaiting]);
  }
  return median(seconds);
}

/// The share of communication time that computing hid: 1 − exposed / all, the latter from the control with
/// overlap off. NaN where nothing is sent. Collective.
double overlap_efficiency(MPI_Comm comm, const Measurement& measurement, const Measurement& control) {
  const double exposed = sum_over_ranks(comm, message_seconds(measurement));
  const double all = sum_over_ranks(comm, message_seconds(control));
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

/// Everything that a case allocates on this rank.
template <class T>
struct CaseMemory {
  LayerInputs<T> inputs;
  Tensor<T> o;
  Tensor<T> lse;
  std::unique_ptr<Executor<T>> executor;
};

/// Allocates, on all ranks or on none.
template <class T>
CaseMemory<T> prepare(const Launch& launch, const Case& c, const Problem& problem, const RankPlan& plan,
                      ThreadTeam& team) {
  CaseMemory<T> memory;
  on_all_ranks(launch.comm, [&] {
    memory.inputs =
        team.run([&] { return make_inputs<T>(c, problem.layout.shard(launch.rank), launch.data_dir); });
    memory.o = Tensor<T>(memory.inputs.q.shape());
    memory.lse = Tensor<T>({c.batch, c.heads, memory.o.shape().tokens, 1});
    memory.executor =
        std::make_unique<Executor<T>>(launch.comm, problem, plan, memory.inputs.bias(),
                                      ShardTensors<T>{memory.inputs.q.view(), memory.inputs.keys.view(),
                                                      memory.o.view(), memory.lse.view()});
  });
  return memory;
}

/// The measured repetitions, the ceilings and the machine's load around them, and the control with overlap
/// off.
template <class T>
void measure_case(const Launch& launch, const Case& c, ThreadTeam& team, Executor<T>& executor,
                  const std::function<void(const Measurement&)>& seen, CaseFacts& facts) {
  const bool f64 = c.dtype == "f64";
  facts.peak_before = sum_over_ranks(launch.comm, fma_peak(launch.comm, team, f64, kPeakSeconds));
  facts.exchange_bandwidth = ring_shift_rate(launch.comm);
  const CpuTime cpu_before = read_cpu_time(launch.comm, launch.placement);
  const auto pass = [&](bool overlap) { return phases(team.run([&] { return executor.forward(overlap); })); };
  facts.measurement = measure(
      launch.comm, stopping_rules(c), kWarmups, [&] { return pass(c.overlap); }, seen);
  const CpuTime cpu_after = read_cpu_time(launch.comm, launch.placement);
  facts.peak_after = sum_over_ranks(launch.comm, fma_peak(launch.comm, team, f64, kPeakSeconds));
  facts.exchange_bandwidth = std::max(facts.exchange_bandwidth, ring_shift_rate(launch.comm));
  facts.passes = static_cast<std::int64_t>(facts.measurement.repetitions.size());
  facts.traffic = executor.traffic();
  facts.overlap_efficiency = std::numeric_limits<double>::quiet_NaN();
  if (c.overlap && launch.ranks > 1) {
    const std::vector<StoppingRule> few{MinimumRepetitions{kControlRepetitions}};
    facts.control = measure(launch.comm, few, 1, [&] { return pass(false); }, {});
    facts.overlap_efficiency = overlap_efficiency(launch.comm, facts.measurement, facts.control);
  }
  const Conditions conditions{
      .ranks_on_node = launch.placement.ranks_on_node,
      .threads_per_rank = team.threads(),
      .node_cores = launch.placement.node_cores,
      .exclusive = launch.placement.exclusive,
      .busy_by_others = busy_by_others(cpu_before, cpu_after),
      .ceilings = {{fmt::format("FMA peak {}", c.dtype), facts.peak_before, facts.peak_after}}};
  facts.breaches = gather_reasons(launch.comm, check_clean(conditions));
}

template <class T>
CaseRecord run_typed(const Launch& launch, const Case& c,
                     const std::function<void(const Measurement&)>& seen) {
  const Problem problem = make_problem(c, launch.ranks);
  const RankPlan plan = planner(c.strategy).plan(problem, launch.rank);
  const Shard shard = problem.layout.shard(launch.rank);
  ThreadTeam team(threads_for(c.threads, launch.placement), launch.placement);
  CaseMemory<T> memory = prepare<T>(launch, c, problem, plan, team);

  CaseFacts facts;
  facts.threads = team.threads();
  facts.planned = audit(problem, plan);
  facts.flops = forward_flops(problem, facts.planned.pairs);
  facts.projection_time = memory.inputs.projection_time;
  facts.timer = launch.calibration.timer;
  measure_case(launch, c, team, *memory.executor, seen, facts);

  const ShardOutput<T> output{{shard.begin(), shard.end()},
                              memory.inputs.q.view(),
                              memory.inputs.k(),
                              memory.inputs.v(),
                              memory.o.view(),
                              memory.lse.view()};
  facts.errors = recompute(launch.comm, problem.pattern, memory.inputs.bias(), output);
  facts.error_bound = error_bound(unit_roundoff<T>(), c.head_dim, c.seq_len, facts.errors.largest_score);
  facts.traffic_as_planned = traffic_as_planned(launch.comm, facts.planned, facts.traffic, facts.passes);
  facts.peak_memory = peak_memory_bytes();
  return case_record(launch, c, facts);
}

}  // namespace

void expect_runnable(const Launch& launch, const Case& c) {
  if (c.dataset != "synthetic") on_all_ranks(launch.comm, [&] { expect_corpus(c, launch.data_dir); });
  const Problem problem = make_problem(c, launch.ranks);
  const RankPlan plan = planner(c.strategy).plan(problem, launch.rank);
  const RankAudit planned = audit(problem, plan);
  std::int64_t pairs = planned.pairs;
  MPI_Allreduce(MPI_IN_PLACE, &pairs, 1, MPI_INT64_T, MPI_SUM, launch.comm);
  expect_every_pair(problem, pairs);
  expect_memory(launch.comm, rank_bytes(problem, planned, c, threads_for(c.threads, launch.placement)));
}

CaseRecord run_case(const Launch& launch, const Case& c,
                    const std::function<void(const Measurement&)>& seen) {
  return c.dtype == "f64" ? run_typed<double>(launch, c, seen) : run_typed<float>(launch, c, seen);
}

}  // namespace longseq
