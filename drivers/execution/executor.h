// Runs any plan: the only place that moves bytes. Messages are non-blocking and travel while tiles are
// computed; the thread that called polls MPI between tiles, so that no core is given away to a progress
// thread.
#pragma once

#include <mpi.h>

#include <span>
#include <vector>

#include "drivers/execution/answers.h"
#include "drivers/execution/memory.h"
#include "drivers/execution/messages.h"
#include "drivers/execution/waves.h"
#include "drivers/sharding/gradient_starts.h"
#include "drivers/sharding/plan.h"

namespace longseq {

/// Where one pass spent its time on this rank, seconds.
struct PassTimes {
  double compute = 0;        // tiles
  double communication = 0;  // starting messages, and progressing them between tiles
  double waiting = 0;        // for messages, nothing else to do
  double merging = 0;        // finishing and joining partial results and gradients
};

/// When a step had done what, seconds of this rank's steady clock: posted its messages, computed its tiles,
/// waited for messages, joined results. Without overlap it waits before it computes.
struct StepMoments {
  double begin = 0;
  double posted = 0;
  double computed = 0;
  double waited = 0;
  double joined = 0;
};

template <class T>
class Executor {
 public:
  using A = Accumulator<T>;
  /// Throws std::invalid_argument if a message or the number of steps is beyond what MPI can count.
  Executor(MPI_Comm comm, const Problem& problem, RankPlan plan, const PositionTerms<A>& terms,
           const ShardTensors<T>& tensors);

  /// The problem's pass: forward fills o and lse; backward fills dq, d_keys and d_terms from o, lse and d_o.
  /// With `overlap` off all messages of a step end before its tiles are computed: the control. Collective.
  /// Runs in the caller's TBB arena.
  PassTimes run(bool overlap);

  const Traffic& traffic() const { return messages_.traffic(); }
  /// Of the last run's steps.
  std::span<const StepMoments> moments() const { return moments_; }

 private:
  /// What is computed and joined in one step.
  struct Work {
    std::vector<ForwardWave<T>> forward;
    std::vector<BackwardWave<T>> backward;
  };

  bool backward() const { return problem_.pass == Pass::backward; }
  /// `starts`: of this step's tiles and those after; the own ones are taken off.
  void prepare(const Step& step, std::span<const GradientStarts::OfTile>& starts);
  /// The last wave that adds to rows finishes them.
  void give_results_early();
  void begin();
  void zero_before(std::size_t step);
  void run_step(std::size_t number, bool overlap, PassTimes& times);
  void compute(const Work& work);
  void merge(const Merge& merge);
  void finish();
  void poll();

  Problem problem_;
  RankPlan plan_;
  PositionTerms<A> terms_;
  ShardTensors<T> tensors_;
  PlanMemory<T> memory_;
  Messages<T> messages_;
  Answers<T> answers_;
  std::vector<Work> work_;  // [step]
  GradientStarts starts_;
  std::vector<StepMoments> moments_;  // [step]
  double polling_ = 0;                // s, of the pass
};

}  // namespace longseq
