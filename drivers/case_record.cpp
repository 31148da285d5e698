#include "drivers/case_record.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "suite/statistics.h"
#include "suite/verdict.h"

namespace longseq {
namespace {

constexpr double kNotKnown = std::numeric_limits<double>::quiet_NaN();

/// Figures of the whole case, the same on all ranks.
struct Figures {
  double median_time = 0;
  double interval_low = kNotKnown;
  double interval_high = kNotKnown;
  double flops = 0;
  double peak = 0;
  double bound_time = 0;
  double imbalance = 1;
  double balance_ceiling = 1;  // mean/max of the planned work
  std::int64_t bytes_sent = 0;
  std::int64_t most_bytes = 0;
  double projection_time = 0;
};

std::vector<double> per_rank(MPI_Comm comm, int ranks, double value) {
  std::vector<double> values(static_cast<std::size_t>(ranks));
  MPI_Allgather(&value, 1, MPI_DOUBLE, values.data(), 1, MPI_DOUBLE, comm);
  return values;
}

double mean_compute(const Measurement& measurement) {
  double sum = 0;
  int count = 0;
  for (const Repetition& repetition : measurement.repetitions) {
    if (repetition.warmup) continue;
    sum += repetition.phases[kCompute];
    ++count;
  }
  return sum / count;
}

Figures figures_of(const Launch& launch, const Case& c, const CaseFacts& facts) {
  Figures figures;
  const std::vector<double> seconds = facts.measurement.figures();
  figures.median_time = median(seconds);
  if (const auto interval = median_interval(seconds, c.confidence)) {
    figures.interval_low = interval->low;
    figures.interval_high = interval->high;
  }
  figures.flops = sum_over_ranks(launch.comm, facts.flops);
  figures.peak = std::max(facts.peak_before, facts.peak_after);
  const std::vector<double> work = per_rank(launch.comm, launch.ranks, facts.flops);
  figures.balance_ceiling = 1 / imbalance(work);
  figures.imbalance = imbalance(per_rank(launch.comm, launch.ranks, mean_compute(facts.measurement)));
  const std::int64_t sent = facts.planned.bytes_sent();
  MPI_Allreduce(&sent, &figures.bytes_sent, 1, MPI_INT64_T, MPI_SUM, launch.comm);
  MPI_Allreduce(&sent, &figures.most_bytes, 1, MPI_INT64_T, MPI_MAX, launch.comm);
  MPI_Allreduce(&facts.projection_time, &figures.projection_time, 1, MPI_DOUBLE, MPI_MAX, launch.comm);
  const double exchange =
      facts.exchange_bandwidth > 0 ? static_cast<double>(figures.most_bytes) / facts.exchange_bandwidth : 0;
  figures.bound_time = std::max(figures.flops / figures.peak, exchange);
  return figures;
}

Verdict judge(const Case& c, const CaseFacts& facts, const Figures& figures) {
  Verdict verdict;
  const auto breach = [&](bool& axis, std::string reason) {
    axis = false;
    verdict.reasons.push_back(std::move(reason));
  };
  verdict.valid = true;
  if (!facts.errors.finite) breach(verdict.valid, "not valid: the output has NaN or infinite values");
  const auto expect_error = [&](const char* what, double error, double bound) {
    if (error <= bound) return;
    breach(verdict.valid, fmt::format("not valid: the relative error of {} is {:.2e}, above the bound {:.2e}",
                                      what, error, bound));
  };
  expect_error("the output", facts.errors.output, facts.bounds.output);
  expect_error("lse", facts.errors.lse, facts.bounds.lse);
  if (facts.gradient_errors) {
    if (!facts.gradient_errors->finite)
      breach(verdict.valid, "not valid: a gradient has NaN or infinite values");
    expect_error("dq", facts.gradient_errors->dq, facts.bounds.gradient);
    expect_error("dk", facts.gradient_errors->dk, facts.bounds.gradient);
    expect_error("dv", facts.gradient_errors->dv, facts.bounds.gradient);
  }
  if (!facts.traffic_as_planned)
    breach(verdict.valid, "not valid: the counted bytes or messages differ from the plan's");
  verdict.converged = facts.measurement.decision.converged;
  if (!verdict.converged)
    verdict.reasons.push_back(fmt::format("not converged: {}", facts.measurement.decision.reason));
  verdict.clean = true;
  for (const std::string& reason : facts.breaches)
    breach(verdict.clean, fmt::format("not clean: {}", reason));
  if (figures.median_time < shortest_interval(facts.timer)) {
    breach(verdict.clean,
           fmt::format("not clean: {:.2e} s is less than 20 times the timer's cost of {:.2e} s",
                       figures.median_time, facts.timer.cost));
  }
  if (figures.median_time < figures.bound_time) {
    breach(verdict.clean, fmt::format("not clean: {:.3e} s is above its ceiling, the bound of {:.3e} s ({} "
                                      "peak and exchange bandwidth of this job)",
                                      figures.median_time, figures.bound_time, c.dtype));
  }
  return verdict;
}

void add_columns(const Launch& launch, const Case& c, const CaseFacts& facts, const Figures& figures,
                 const Verdict& verdict, std::vector<Column>& columns) {
  for (auto& [name, value] : fields(c)) {
    const bool number = std::holds_alternative<std::int64_t>(value) || std::holds_alternative<double>(value);
    const char* units = name == "max_time" ? "s" : number ? "1" : "";
    if (name == "threads") value = std::int64_t{facts.threads};
    columns.push_back({name, std::move(value), units, std::string(find_field(name)->help)});
  }
  const auto add = [&](const char* name, Scalar value, const char* units, const char* long_name) {
    columns.push_back({name, std::move(value), units, long_name});
  };
  const double rate = figures.flops / figures.median_time;
  const double sent_per_rank = static_cast<double>(figures.most_bytes) / figures.median_time;
  add("ranks", std::int64_t{launch.ranks}, "1", "MPI ranks");
  add("median_time", figures.median_time, "s", "median over repetitions of the slowest rank's time");
  add("predicted_time", facts.predicted_time, "s",
      "what the predictor said just before, from this machine's costs");
  add("prediction_error", facts.predicted_time / figures.median_time - 1, "1",
      "predicted_time over median_time, less 1");
  add("picked", facts.picked, "", "strategy auto: the predictor picked it");
  add("interval_low", figures.interval_low, "s", "lower end of the median's confidence interval");
  add("interval_high", figures.interval_high, "s", "upper end of the median's confidence interval");
  add("counted_repetitions", static_cast<std::int64_t>(facts.measurement.figures().size()), "1",
      "repetitions without warm-up");
  add("imbalance", figures.imbalance, "1", "mean computing time of a rank, maximum over mean of the ranks");
  add("flops", figures.flops, "flop",
      "mask-exact FLOPs of the passes: 4 area H D per batch entry forward, 2.5 times that backward; "
      "relative positions 2 and 6 area H D more");
  add("flop_rate", rate, "flop/s", "mask-exact FLOPs over the median time");
  add("tokens_per_second", static_cast<double>(c.seq_len * c.batch) / figures.median_time, "1/s",
      "tokens over the median time");
  add("fma_peak", figures.peak, "flop/s",
      "FMA peak of all ranks around the case, the higher of before and after");
  add("fma_peak_before", facts.peak_before, "flop/s", "FMA peak of all ranks just before");
  add("fma_peak_after", facts.peak_after, "flop/s", "FMA peak of all ranks just after");
  add("fraction_of_peak", rate / figures.peak, "1", "flop_rate over fma_peak");
  add("bound_time", figures.bound_time, "s",
      "max(FLOPs / peak, bytes of the busiest sender / exchange bandwidth)");
  add("fraction_of_bound", figures.bound_time / figures.median_time, "1", "bound_time over median_time");
  add("bytes_sent", figures.bytes_sent, "B", "payload sent by all ranks in one repetition");
  add("exchange_rate", sent_per_rank, "B/s", "payload of the busiest sender over the median time");
  add("fraction_of_bandwidth",
      facts.exchange_bandwidth > 0 ? sent_per_rank / facts.exchange_bandwidth : kNotKnown, "1",
      "exchange_rate over the ring-shift bandwidth of this job");
  add("overlap_efficiency", facts.overlap_efficiency, "1",
      "share of the communication time that computing hid, against a control without overlap");
  add("waiting_hidden", facts.waiting_hidden, "1",
      "share of the control's waiting for messages that is gone with overlap; the processor's own copying is "
      "not waiting");
  add("balance_ceiling", figures.balance_ceiling, "1",
      "what the layout's balance of work allows: mean over maximum of the ranks' FLOPs");
  add("projection_time", figures.projection_time, "s",
      "projections of q, k and v, apart from attention, slowest rank");
  add("verified_rows", facts.errors.rows, "1", "query positions recomputed in f64");
  add("output_error", facts.errors.output, "1", "root mean square of rows' relative errors against f64");
  add("output_bound", facts.bounds.output, "1",
      "what rounding explains, from type, head_dim, keys and scores");
  add("lse_error", facts.errors.lse, "1", "largest error of lse relative to max(1, |lse|)");
  add("lse_bound", facts.bounds.lse, "1", "the same bound, without rounding to storage");
  const GradientErrors gradients =
      facts.gradient_errors.value_or(GradientErrors{kNotKnown, kNotKnown, kNotKnown, true});
  add("dq_error", gradients.dq, "1",
      "root mean square of rows' relative errors against f64; NaN without a backward pass");
  add("dk_error", gradients.dk, "1", "the same of dk");
  add("dv_error", gradients.dv, "1", "the same of dv");
  add("gradient_bound", facts.gradient_errors ? facts.bounds.gradient : kNotKnown, "1",
      "what rounding explains of them");
  add("largest_score", facts.errors.largest_score, "1", "of the recomputed rows");
  add("valid", verdict.valid, "", "output and traffic are right");
  add("converged", verdict.converged, "", "the stopping rule was content");
  add("clean", verdict.clean, "", "nothing disturbed the measurement");
}

/// The samples of one series of repetitions, over an axis of its own.
void add_series(const Measurement& measurement, const std::string& axis, const std::string& prefix,
                Group& group) {
  const std::vector<Repetition>& repetitions = measurement.repetitions;
  std::vector<std::int64_t> numbers(repetitions.size());
  std::iota(numbers.begin(), numbers.end(), 0);
  group.axes.push_back({axis, std::move(numbers), "1", "repetition, warm-up included"});
  std::vector<double> samples, skew, end;
  std::vector<std::uint8_t> warmup;
  for (std::size_t phase = 0; phase < kPhases.size(); ++phase) {
    for (const Repetition& repetition : repetitions) samples.push_back(repetition.phases[phase]);
  }
  for (const Repetition& repetition : repetitions) {
    skew.push_back(repetition.start);
    end.push_back(repetition.end);
    warmup.push_back(repetition.warmup ? 1 : 0);
  }
  const auto add = [&](const std::string& name, std::vector<std::string> dims, Values values,
                       const char* units, const char* long_name, bool distributed) {
    group.arrays.push_back(
        {prefix + name, std::move(dims), std::move(values), units, long_name, distributed});
  };
  add("samples", {"phase", "rank", axis}, std::move(samples), "s", "time of each phase", true);
  add("start_skew", {"rank", axis}, std::move(skew), "s",
      "start: how much later than the first rank it left the barrier", true);
  add("end", {"rank", axis}, std::move(end), "s", "end, from the moment the first rank left the barrier",
      true);
  add("warmup", {axis}, std::move(warmup), "", "kept, but in no figure", false);
}

void add_samples(const CaseFacts& facts, Group& group) {
  group.axes.push_back(
      {"phase", std::vector<std::string>(kPhases.begin(), kPhases.end()), "", "what the time was spent on"});
  add_series(facts.measurement, "repetition", "", group);
  if (!facts.control.repetitions.empty()) add_series(facts.control, "control_repetition", "control_", group);
}

void add_traffic(const CaseFacts& facts, Group& group) {
  const auto per_pass = [&](std::vector<std::int64_t> counts) {
    for (std::int64_t& count : counts) count /= facts.passes;
    return counts;
  };
  group.arrays.push_back({"bytes_sent",
                          {"rank", "peer"},
                          per_pass(facts.traffic.bytes_to),
                          "B",
                          "payload sent in one repetition, counted",
                          true});
  group.arrays.push_back({"messages_sent",
                          {"rank", "peer"},
                          per_pass(facts.traffic.messages_to),
                          "1",
                          "messages sent in one repetition, counted",
                          true});
  group.arrays.push_back({"planned_bytes",
                          {"rank", "peer"},
                          facts.planned.bytes_to,
                          "B",
                          "payload sent in one repetition, by the plan",
                          true});
  group.arrays.push_back({"planned_messages",
                          {"rank", "peer"},
                          facts.planned.messages_to,
                          "1",
                          "messages sent in one repetition, by the plan",
                          true});
  group.arrays.push_back({"compute_flops",
                          {"rank"},
                          std::vector<double>{facts.flops},
                          "flop",
                          "mask-exact FLOPs of the rank",
                          true});
  group.arrays.push_back({"peak_memory",
                          {"rank"},
                          std::vector<std::int64_t>{facts.peak_memory},
                          "B",
                          "largest resident size of the process during the case, less that before it",
                          true});
  group.arrays.push_back({"planned_memory",
                          {"rank"},
                          std::vector<std::int64_t>{facts.planned_memory},
                          "B",
                          "tensors, buffers and scratch, by the plan",
                          true});
}

/// The steps of the last repetition, of all passes that count one after the other, from the moment the first
/// rank began, on rank 0's clock; NaN where a rank has fewer steps. Of very many ranks and steps, nothing.
void add_timeline(const Launch& launch, const CaseFacts& facts, Group& group) {
  constexpr std::int64_t kMostSteps = 100'000;  // of all ranks together
  std::int64_t steps = static_cast<std::int64_t>(facts.timeline.size());
  MPI_Allreduce(MPI_IN_PLACE, &steps, 1, MPI_INT64_T, MPI_MAX, launch.comm);
  const double offset = clock_offset(launch.comm);
  double first = facts.timeline.empty() ? std::numeric_limits<double>::infinity()
                                        : facts.timeline.front().begin + offset;
  MPI_Allreduce(MPI_IN_PLACE, &first, 1, MPI_DOUBLE, MPI_MIN, launch.comm);
  if (steps == 0 || steps * launch.ranks > kMostSteps) return;
  std::vector<double> moments;
  for (const StepMoments& step : facts.timeline) {
    for (const double moment : {step.begin, step.posted, step.computed, step.waited, step.joined})
      moments.push_back(moment + offset - first);
  }
  moments.resize(static_cast<std::size_t>(5 * steps), kNotKnown);
  std::vector<std::int64_t> numbers(static_cast<std::size_t>(steps));
  std::iota(numbers.begin(), numbers.end(), 0);
  group.axes.push_back({"step", std::move(numbers), "1", "step of the plan, of all passes"});
  group.axes.push_back({"moment", std::vector<std::string>{"begin", "posted", "computed", "waited", "joined"},
                        "", "messages posted, tiles computed, messages waited for, results joined"});
  group.arrays.push_back({"timeline",
                          {"rank", "step", "moment"},
                          std::move(moments),
                          "s",
                          "the last repetition, from the moment the first rank began",
                          true});
}

}  // namespace

CaseRecord case_record(const Launch& launch, const Case& c, const CaseFacts& facts) {
  const Figures figures = figures_of(launch, c, facts);
  const Verdict verdict = judge(c, facts, figures);
  CaseRecord record;
  add_columns(launch, c, facts, figures, verdict, record.columns);
  record.group.attributes.push_back({"label", label(c)});
  record.group.attributes.push_back({"reasons", fmt::format("{}", fmt::join(verdict.reasons, "\n"))});
  record.group.attributes.push_back({"stopping_rule", describe(stopping_rules(c))});
  record.group.attributes.push_back({"stopped", facts.measurement.decision.reason});
  record.group.attributes.push_back(
      {"flops_convention",
       std::string(
           "mask-exact: 4 * visible pairs * heads * head_dim forward, 2.5 times that backward; relative "
           "positions 2 and 6 * visible pairs * heads * head_dim more")});
  add_samples(facts, record.group);
  add_traffic(facts, record.group);
  add_timeline(launch, facts, record.group);
  return record;
}

}  // namespace longseq
