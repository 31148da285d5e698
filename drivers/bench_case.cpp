#include "drivers/bench_case.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include "drivers/case_record.h"
#include "drivers/inputs.h"
#include "drivers/layer.h"
#include "drivers/problem.h"
#include "results/agreement.h"
#include "suite/clean.h"
#include "suite/memory.h"
#include "suite/statistics.h"
#include "suite/verify_gradients.h"

namespace longseq {
namespace {

constexpr int kWarmups = 2;
constexpr int kControlRepetitions = 5;
constexpr double kPeakSeconds = 0.06;

void add(const PassTimes& times, PhaseTimes& phases) {
  phases[kCompute] += times.compute;
  phases[kCommunication] += times.communication;
  phases[kWaiting] += times.waiting;
  phases[kMerging] += times.merging;
}

/// Seconds per repetition that this rank spends in some phases, median.
double seconds_in(const Measurement& measurement, std::initializer_list<Phase> phases) {
  std::vector<double> seconds;
  for (const Repetition& repetition : measurement.repetitions) {
    if (repetition.warmup) continue;
    seconds.push_back(0);
    for (const Phase phase : phases) seconds.back() += repetition.phases[phase];
  }
  return median(seconds);
}

/// The share of these phases' time in the control, with overlap off, that is gone with overlap. NaN where
/// nothing is sent. Collective.
double hidden(MPI_Comm comm, const CaseFacts& facts, std::initializer_list<Phase> phases) {
  const double exposed = sum_over_ranks(comm, seconds_in(facts.measurement, phases));
  const double all = sum_over_ranks(comm, seconds_in(facts.control, phases));
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

/// Allocates, on all ranks or on none.
template <class T>
std::unique_ptr<Layer<T>> prepare(const Launch& launch, const Case& c, std::vector<PlannedPass>& passes,
                                  ThreadTeam& team) {
  std::unique_ptr<Layer<T>> layer;
  on_all_ranks(launch.comm, [&] {
    const Problem& problem = passes.front().problem;
    const Shard shard = problem.layout.shard(launch.rank);
    LayerInputs<T> inputs = team.run([&] {
      return in_storage<T>(make_inputs<Accumulator<T>>(c, problem.pattern, shard, launch.data_dir));
    });
    layer = std::make_unique<Layer<T>>(launch.comm, std::move(inputs), passes);
  });
  return layer;
}

/// Adds up per peer what was planned, or counted.
template <class Messages>
void add_messages(const Messages& own, Messages& sum) {
  sum.bytes_to.resize(own.bytes_to.size());
  sum.messages_to.resize(own.messages_to.size());
  for (std::size_t peer = 0; peer < sum.bytes_to.size(); ++peer) {
    sum.bytes_to[peer] += own.bytes_to[peer];
    sum.messages_to[peer] += own.messages_to[peer];
  }
}

/// The plans' messages of the passes that count, together.
RankAudit counted(const Case& c, std::span<const PlannedPass> passes) {
  RankAudit sum;
  for (const PlannedPass& pass : passes) {
    if (!counts(c, pass.problem.pass)) continue;
    add_messages(pass.audit, sum);
  }
  return sum;
}

template <class T>
Traffic counted_traffic(const Case& c, const Layer<T>& layer) {
  Traffic sum;
  for (const Pass pass : passes_run(c)) {
    if (!counts(c, pass)) continue;
    const Traffic& own = layer.traffic(pass);
    add_messages(own, sum);
    sum.bytes_received += own.bytes_received;
  }
  return sum;
}

/// The passes that count, one after the other.
template <class T>
PhaseTimes repetition(const Case& c, ThreadTeam& team, Layer<T>& layer, bool overlap) {
  PhaseTimes phases{};
  for (const Pass pass : passes_run(c)) {
    if (counts(c, pass)) add(team.run([&] { return layer.run(pass, overlap); }), phases);
  }
  return phases;
}

/// A few repetitions with overlap off, and what overlap hid of their messages.
template <class T>
void measure_control(const Launch& launch, const Case& c, ThreadTeam& team, Layer<T>& layer,
                     CaseFacts& facts) {
  facts.overlap_efficiency = facts.waiting_hidden = std::numeric_limits<double>::quiet_NaN();
  if (!c.overlap || launch.ranks == 1) return;
  const std::vector<StoppingRule> few{MinimumRepetitions{kControlRepetitions}};
  facts.control = measure(launch.comm, few, 1, [&] { return repetition(c, team, layer, false); }, {});
  facts.overlap_efficiency = hidden(launch.comm, facts, {kCommunication, kWaiting});
  facts.waiting_hidden = hidden(launch.comm, facts, {kWaiting});
}

/// The measured repetitions, the ceilings and the machine's load around them.
template <class T>
void measure_case(const Launch& launch, const Case& c, ThreadTeam& team, Layer<T>& layer,
                  const std::function<void(const Measurement&)>& seen, CaseFacts& facts) {
  facts.peak_before = sum_over_ranks(launch.comm, fma_peak(launch.comm, team, c.dtype, kPeakSeconds));
  facts.exchange_bandwidth = ring_shift_rate(launch.comm);
  const CpuTime cpu_before = read_cpu_time(launch.comm, launch.placement);
  if (!counts(c, Pass::forward))  // its results, once
    team.run([&] { return layer.run(Pass::forward, true); });
  facts.measurement = measure(
      launch.comm, stopping_rules(c), kWarmups, [&] { return repetition(c, team, layer, c.overlap); }, seen);
  const CpuTime cpu_after = read_cpu_time(launch.comm, launch.placement);
  facts.peak_after = sum_over_ranks(launch.comm, fma_peak(launch.comm, team, c.dtype, kPeakSeconds));
  facts.exchange_bandwidth = std::max(facts.exchange_bandwidth, ring_shift_rate(launch.comm));
  facts.passes = static_cast<std::int64_t>(facts.measurement.repetitions.size());
  facts.traffic = counted_traffic(c, layer);
  for (const Pass pass : passes_run(c)) {
    if (!counts(c, pass)) continue;
    const auto moments = layer.moments(pass);
    facts.timeline.insert(facts.timeline.end(), moments.begin(), moments.end());
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
void verify_case(const Launch& launch, const Case& c, const Problem& problem, Layer<T>& layer,
                 CaseFacts& facts) {
  const Shard shard = problem.layout.shard(launch.rank);
  const ShardOutput<T> output{{shard.begin(), shard.end()},
                              layer.inputs.q.view(),
                              layer.inputs.k(),
                              layer.inputs.v(),
                              layer.o.view(),
                              layer.lse.view()};
  const auto terms = layer.inputs.position.terms();
  facts.errors = recompute<T>(launch.comm, problem.pattern, terms, output);
  facts.bounds = error_bounds<T>(c.head_dim, c.seq_len, facts.errors.largest_score);
  if (!layer.runs(Pass::backward)) return;
  facts.gradient_errors =
      recompute_gradients<T>(launch.comm, problem.pattern, terms, output,
                             {layer.inputs.d_o.view(), layer.dq.view(), first_half(layer.d_keys.view()),
                              second_half(layer.d_keys.view())});
  int finite = layer.d_position.finite() ? 1 : 0;
  MPI_Allreduce(MPI_IN_PLACE, &finite, 1, MPI_INT, MPI_MIN, launch.comm);
  facts.gradient_errors->finite = facts.gradient_errors->finite && finite != 0;
}

template <class T>
CaseRecord run_typed(const Launch& launch, const Prospect& prospect,
                     const std::function<void(const Measurement&)>& seen) {
  const Case& c = prospect.chosen;
  const Problem problem = make_problem(c, launch.ranks);
  std::vector<PlannedPass> passes = plan_passes(c, problem, launch.rank);
  ThreadTeam team(threads_for(c.threads, launch.placement), launch.placement);
  const std::int64_t before = reset_peak_memory();
  const std::unique_ptr<Layer<T>> layer = prepare<T>(launch, c, passes, team);

  CaseFacts facts;
  facts.threads = team.threads();
  facts.predicted_time = prospect.predicted_time;
  facts.picked = prospect.picked;
  facts.planned = counted(c, passes);
  facts.planned_memory = rank_bytes(c, passes, team.threads());
  for (const PlannedPass& pass : passes) {
    if (counts(c, pass.problem.pass)) facts.flops += pass_flops(pass.problem, pass.audit.pairs);
  }
  facts.projection_time = layer->inputs.projection_time;
  facts.timer = launch.calibration.timer;
  measure_case(launch, c, team, *layer, seen, facts);
  facts.peak_memory = peak_memory_bytes() - before;
  verify_case(launch, c, problem, *layer, facts);  // what was measured, before the control overwrites it
  measure_control(launch, c, team, *layer, facts);
  facts.traffic_as_planned = traffic_as_planned(launch.comm, facts.planned, facts.traffic, facts.passes);
  return case_record(launch, c, facts);
}

}  // namespace

CaseRecord run_case(const Launch& launch, const Prospect& prospect,
                    const std::function<void(const Measurement&)>& seen) {
  const std::string& dtype = prospect.chosen.dtype;
  if (dtype == "f64") return run_typed<double>(launch, prospect, seen);
  if (dtype == "bf16") return run_typed<BFloat16>(launch, prospect, seen);
  return run_typed<float>(launch, prospect, seen);
}

}  // namespace longseq
