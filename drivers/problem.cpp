#include "drivers/problem.h"

#include <fmt/format.h>

#include <algorithm>

#include "datasets/documents.h"
#include "drivers/position_terms.h"
#include "drivers/sharding/planner.h"
#include "kernels/attention_backward.h"
#include "results/agreement.h"
#include "suite/gather.h"
#include "suite/memory.h"

namespace longseq {

Choices built_choices() {
  Choices choices;
  for (const PlannerRow& row : kPlanners) choices.strategies.emplace_back(row.name);
  choices.strategies.insert(choices.strategies.end(), {"auto", "all"});
  for (const LayoutRow& row : kLayouts) choices.layouts.emplace_back(row.name);
  return choices;
}

std::string names_explained() {
  std::string text = "\nPatterns: what query i sees\n";
  for (const PatternRow& row : kPatterns) text += fmt::format("  {:<12}{}\n", row.name, row.sees);
  text += "\nStrategies: how keys reach queries of other ranks\n";
  for (const PlannerRow& row : kPlanners) text += fmt::format("  {:<12}{}\n", row.name, row.moves);
  text += fmt::format("  {:<12}{}\n", "auto", "the one that is predicted to be the fastest");
  text += fmt::format("  {:<12}{}\n", "all", "each that can run, one after the other (bench, plan)");
  text += "\nLayouts: who owns which tokens\n";
  for (const LayoutRow& row : kLayouts) text += fmt::format("  {:<12}{}\n", row.name, row.owns);
  return text;
}

Problem make_problem(const Case& c, int ranks, std::vector<std::int64_t> starts) {
  if (c.pattern == "document" && starts.empty()) {
    starts = document_starts(c.seq_len, static_cast<double>(c.document_length),
                             static_cast<std::uint64_t>(c.seed));
  }
  Problem problem;
  problem.pattern = make_pattern(c, std::move(starts));
  problem.pattern.check();
  problem.layout = {layout_kind(c.layout), c.seq_len, ranks};
  problem.batch = c.batch;
  problem.heads = c.heads;
  problem.kv_heads = c.kv_heads;
  problem.head_dim = c.head_dim;
  problem.element_bytes = c.dtype == "f64" ? 8 : c.dtype == "bf16" ? 2 : 4;
  problem.accumulator_bytes = c.dtype == "f64" ? 8 : 4;
  problem.relative = c.position == "relative";
  problem.ulysses_degree = static_cast<int>(c.ulysses_degree);
  return problem;
}

std::vector<Pass> passes_run(const Case& c) {
  if (c.pass == "forward") return {Pass::forward};
  return {Pass::forward, Pass::backward};
}

bool counts(const Case& c, Pass pass) {
  return c.pass == "both" || c.pass == name_of(pass);
}

std::string_view name_of(Pass pass) {
  return pass == Pass::forward ? "forward" : "backward";
}

PassPlanner::PassPlanner(const Case& c, const Problem& forward) {
  for (const Pass pass : passes_run(c)) {
    problems_.push_back(forward);
    problems_.back().pass = pass;
  }
  for (const Problem& problem : problems_) plans_.push_back(planner(c.strategy).prepare(problem));
}

std::vector<PlannedPass> PassPlanner::plan(int rank) const {
  std::vector<PlannedPass> passes;
  for (std::size_t pass = 0; pass < problems_.size(); ++pass) {
    RankPlan plan = plans_[pass](rank);
    RankAudit planned = audit(problems_[pass], plan);
    passes.push_back({problems_[pass], std::move(plan), std::move(planned)});
  }
  return passes;
}

std::vector<PlannedPass> plan_passes(const Case& c, const Problem& forward, int rank) {
  return PassPlanner(c, forward).plan(rank);
}

namespace {

template <class T>
std::int64_t scratch_bytes(const Case& c) {
  const bool relative = c.position == "relative";
  const std::int64_t forward = attention_scratch_bytes<T>(c.head_dim, relative);
  return c.pass == "forward" ? forward
                             : std::max(forward, attention_backward_scratch_bytes<T>(c.head_dim, relative));
}

}  // namespace

std::int64_t rank_bytes(const Case& c, std::span<const PlannedPass> passes, int threads) {
  const Problem& problem = passes.back().problem;
  const std::int64_t scratch = c.dtype == "f64"    ? scratch_bytes<double>(c)
                               : c.dtype == "bf16" ? scratch_bytes<BFloat16>(c)
                                                   : scratch_bytes<float>(c);
  const std::int64_t position = position_bytes(c, problem.pattern, problem.accumulator_bytes, threads);
  const std::int64_t rows = passes.back().audit.rows;
  std::int64_t layer = 0;  // a corpus' tokens, their embedding, the tables and weights
  if (c.dataset != "synthetic") {
    const std::int64_t width = c.heads * c.head_dim, kv_width = c.kv_heads * c.head_dim;
    constexpr std::int64_t kVocabulary = 256;  // of bytes; other corpora are of this order or less
    layer = rows * static_cast<std::int64_t>(sizeof(std::int32_t)) +
            (rows * width + width * width + 2 * width * kv_width + kVocabulary * width) *
                problem.accumulator_bytes;
  }
  if (problem.element_bytes < problem.accumulator_bytes)  // inputs are made in the accumulator's type
    layer += rows * c.batch * (c.heads + 2 * c.kv_heads) * c.head_dim * problem.accumulator_bytes;
  std::int64_t bytes = passes.back().audit.tensor_bytes;  // the backward pass's are the forward's and more
  for (const PlannedPass& pass : passes) bytes += pass.audit.state_bytes + pass.audit.arena_bytes;
  return bytes + threads * scratch + layer + position;
}

void expect_memory(MPI_Comm comm, std::int64_t bytes) {
  const NodeComm node(comm);
  std::int64_t wanted = 0;
  MPI_Allreduce(&bytes, &wanted, 1, MPI_INT64_T, MPI_SUM, node.get());
  on_all_ranks(comm, [&] {
    const std::int64_t available = available_memory_bytes();
    if (wanted <= available) return;
    throw std::invalid_argument(
        fmt::format("the ranks of one node need {} together; expected at most the {} that are available "
                    "there; hint: a shorter "
                    "--seq-len, more nodes, or a strategy with memory O(S/P)",
                    gibibytes(static_cast<double>(wanted)), gibibytes(static_cast<double>(available))));
  });
}

std::string gibibytes(double bytes) {
  constexpr double kGibi = 1024.0 * 1024.0 * 1024.0;
  return fmt::format("{:.3g} GiB", bytes / kGibi);
}

}  // namespace longseq
