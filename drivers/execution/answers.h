// Forward results in the making: the streaming softmax of each buffer that tiles write into.
#pragma once

#include <map>

#include "drivers/execution/memory.h"
#include "drivers/sharding/area.h"
#include "kernels/attention.h"

namespace longseq {

template <class T>
class Answers {
 public:
  using A = Accumulator<T>;
  /// Finds the buffers that the plan's tiles write into; none in a backward pass.
  Answers(const Problem& problem, const RankPlan& plan, const PlanMemory<T>& memory);

  /// The state of all rows of the tile's `into`, for the tile's heads.
  AttentionState<A> state_of(const Tile& tile);
  /// Where results of some heads of a buffer go; nowhere if they are partial.
  AttentionResult<T> result_of(int buffer, Interval heads) const;
  /// The kernels finish these rows themselves.
  void given(int buffer, const Area& rows);
  /// All rows have seen nothing yet.
  void begin();
  /// Divides by the sums and writes lse, if `buffer` is a result made here that is not finished yet.
  void finish(int buffer);

 private:
  struct Answer {
    Interval heads;
    int lse;                 // the buffer; −1 for partials, which have it beside them
    Tensor<A> wide_outputs;  // where T is not A
    Tensor<A> maximum;
    Tensor<A> sum;
    Areas left;  // to be finished here
    bool finished = false;
  };
  void add(int buffer, int lse, Interval heads);
  AttentionState<A> state(int buffer, Answer& answer);
  static Interval heads_within(const Answer& answer, Interval heads) {
    return heads.shifted(-answer.heads.begin);
  }
  bool partial(int buffer) const { return buffer_of(plan_, buffer).payload == Payload::partials; }

  const Problem& problem_;
  const RankPlan& plan_;
  const PlanMemory<T>& memory_;
  std::map<int, Answer> answers_;  // by the buffer
};

}  // namespace longseq
