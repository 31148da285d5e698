#include "drivers/prospect.h"

#include <cstddef>
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

#include "drivers/inputs.h"
#include "drivers/kernel_costs.h"
#include "drivers/sharding/predict.h"
#include "drivers/strategies.h"
#include "kernels/threads/thread_team.h"
#include "results/agreement.h"
#include "suite/watchdog.h"

namespace longseq {

Launch start_launch() {
  Launch launch;
  MPI_Comm_rank(launch.comm, &launch.rank);
  MPI_Comm_size(launch.comm, &launch.ranks);
  launch.placement = find_placement(launch.comm);
  return launch;
}

void expect_runnable(const Launch& launch, const Case& c, const Problem& problem) {
  if (c.dataset != "synthetic") on_all_ranks(launch.comm, [&] { expect_corpus(c, launch.data_dir); });
  if (c.strategy == kAuto) return;  // once it is picked
  const std::vector<PlannedPass> passes = plan_passes(c, problem, launch.rank);
  for (const PlannedPass& pass : passes) {
    std::int64_t pairs = pass.audit.pairs;
    MPI_Allreduce(MPI_IN_PLACE, &pairs, 1, MPI_INT64_T, MPI_SUM, launch.comm);
    expect_every_pair(pass.problem, pairs);
  }
  expect_memory(launch.comm, rank_bytes(c, passes, threads_for(c.threads, launch.placement)));
}

namespace {

/// The valid strategies for which there is memory, the same on all ranks. Throws on all ranks what
/// expect_runnable() says of the last where there is none.
std::vector<std::string> runnable_strategies(const Launch& launch, Case c, const Problem& problem) {
  std::vector<std::string> names;
  std::exception_ptr refusal;
  for (const std::string& name : valid_strategies(problem)) {
    c.strategy = name;
    try {
      expect_runnable(launch, c, problem);
      names.push_back(name);
    } catch (const std::invalid_argument&) {
      refusal = std::current_exception();
    }
  }
  if (names.empty()) std::rethrow_exception(refusal);
  return names;
}

}  // namespace

Prospect foresee(const Launch& launch, const Case& c, const Problem& problem) {
  Prospect prospect{c, c.strategy == kAuto, 0};
  std::vector<std::string> names{c.strategy};
  if (prospect.picked) names = runnable_strategies(launch, c, problem);
  ThreadTeam team(threads_for(c.threads, launch.placement), launch.placement);
  const Machine machine = measure_machine(launch.comm, team, launch.placement, launch.calibration, c);
  // Rank 0 simulates all ranks; of more than it plans in an instant, each predicts itself.
  constexpr int kMostByOne = 256;
  const bool by_rank_0 = launch.ranks <= kMostByOne;
  const Interval ranks = by_rank_0 ? Interval{0, launch.ranks} : Interval{launch.rank, launch.rank + 1};
  std::vector<double> own(names.size()), seconds(names.size());
  if (launch.rank == 0 || !by_rank_0)
    team.run([&] { own = predict_strategies(c, problem, machine, ranks, names); });
  maximum_watched(launch.comm, own, seconds, "predict a case");
  const std::size_t pick = fastest(seconds);
  prospect.chosen.strategy = names[pick];
  resolve(prospect.chosen);
  prospect.predicted_time = seconds[pick];
  return prospect;
}

}  // namespace longseq
