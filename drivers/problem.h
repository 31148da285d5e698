// From a case to what the planners need, and whether a node can hold it.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "drivers/sharding/audit.h"
#include "drivers/sharding/plan.h"
#include "suite/case.h"

namespace longseq {

/// The strategies and layouts that are built, for the command line.
Choices built_choices();

/// What each pattern, strategy and layout is, a line each, to stand below --help.
std::string names_explained();

/// The case's forward pass on so many ranks. Documents are drawn by the case's seed unless `document_starts`
/// are given. The case must be resolved.
Problem make_problem(const Case& c, int ranks, std::vector<std::int64_t> document_starts = {});

/// The passes that the case runs, in their order: the backward pass needs the forward pass's results.
std::vector<Pass> passes_run(const Case& c);
/// Whether the case is about this pass: its time, bytes and FLOPs count.
bool counts(const Case& c, Pass pass);
std::string_view name_of(Pass pass);

/// One rank's share of one pass.
struct PlannedPass {
  Problem problem;
  RankPlan plan;
  RankAudit audit;
};
/// Plans the passes that a case runs, for any rank; several threads may.
class PassPlanner {
 public:
  /// `forward` is make_problem()'s. Throws std::invalid_argument, with the reason, if the strategy cannot run
  /// it.
  PassPlanner(const Case& c, const Problem& forward);
  PassPlanner(const PassPlanner&) = delete;
  PassPlanner& operator=(const PassPlanner&) = delete;

  std::span<const Problem> problems() const { return problems_; }
  std::vector<PlannedPass> plan(int rank) const;

 private:
  std::vector<Problem> problems_;  // of the passes
  std::vector<PlanRank> plans_;
};
/// The same of one rank.
std::vector<PlannedPass> plan_passes(const Case& c, const Problem& forward, int rank);

/// Bytes that a rank will hold for a case: tensors, buffers, scratch of its threads, and what the inputs are
/// made from.
std::int64_t rank_bytes(const Case& c, std::span<const PlannedPass> passes, int threads);

/// Throws std::invalid_argument on all ranks, with both numbers, if the ranks of some node together want more
/// memory than it has free. Collective.
void expect_memory(MPI_Comm comm, std::int64_t bytes);

/// "3.2 GiB".
std::string gibibytes(double bytes);

}  // namespace longseq
