// One task of the backward engine: some keys of one key/value head against all queries that see them. Tasks
// of one head add to the same dq, one after the other: each goes through the tiles in ascending order and
// adds to a tile once every earlier task has passed it, so that the order of sums is fixed, and no two tasks
// ever meet. Not for use outside kernels/.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "kernels/attention_backward.h"
#include "kernels/tiles/backward_tile.h"

namespace longseq::detail {

/// Which tasks have passed which tile; shared by the tasks of one batch entry and key/value head.
class Procession {
 public:
  explicit Procession(std::size_t tasks);
  /// Task `task` is done with all tiles before `tile`.
  void pass(std::size_t task, std::int64_t tile) { passed_[task].store(tile, std::memory_order_release); }
  void leave(std::size_t task) { pass(task, kDone); }
  /// Returns when every task before `task` has passed `tile`; calls `poll` (may be empty) meanwhile.
  void wait(std::size_t task, std::int64_t tile, const Poll& poll);
  /// Returns when every task before `task` has left.
  void wait(std::size_t task, const Poll& poll) { wait(task, kDone - 1, poll); }

 private:
  static constexpr std::int64_t kDone = std::int64_t{1} << 62;
  std::unique_ptr<std::atomic<std::int64_t>[]> passed_;
  std::atomic<std::size_t> first_active_{0};  // all before it have left: where to begin to look
};

struct BackwardTask {
  std::size_t block;  // of keys
  std::int64_t batch;
  std::int64_t kv_head;
  Interval keys;            // rows of the block
  std::size_t place;        // in the procession of its batch entry and head
  std::size_t place_terms;  // in the procession of its head, which adds to the gradients of position terms
};

/// What all tasks of a call share.
template <class T>
struct BackwardCall {
  using A = Accumulator<T>;
  const Pattern& pattern;
  const PositionTerms<A>& terms;
  std::span<const GradientQueries<T>> queries;
  std::span<const GradientKeys<T>> keys;
  const TermGradients<A>& gradients;
  bool by_pairs;                         // the processor's product of bfloat16 pairs does the work
  std::int64_t fold;                     // query heads folded into the rows of a tile
  std::vector<std::int64_t> first_tile;  // [query block], and the number of tiles of one pass
  std::deque<Procession> by_batch_head;  // [batch · kv_heads + kv_head]
  std::deque<Procession> by_head;        // [kv_head]

  std::int64_t group() const { return queries.front().q.shape.heads / keys.front().k.shape.heads; }
};

/// Keys of a task, at most: as many as fit, with their gradients, into 740 KB of the second-level cache,
/// since each task loads all queries; no more than 6 pieces, so that there are tasks enough.
constexpr std::int64_t most_task_keys(std::int64_t head_dim) {
  constexpr std::int64_t kElements = 740'000 / 4 / 4;  // of f32; of f64 they fill twice that
  return kBackwardKeys *
         std::clamp<std::int64_t>(kElements / (kBackwardKeys * packed_stride(head_dim)), 1, 6);
}

/// What one thread works in.
template <class T>
struct BackwardScratch {
  using A = Accumulator<T>;
  explicit BackwardScratch(const BackwardCall<T>& call);
  /// Elements of A that one takes, without those of position terms.
  static std::int64_t elements(std::int64_t head_dim);

  Tensor<A> memory;
  BackwardTile<A> tile;
  BackwardOperands<A> operands;
  BackwardOperands<Pair> pairs;  // in the same memory
  KeyGradients<A> gradients;
  BackwardScores<A> scores;
  PairScores pair_scores;  // null where T is A
  /// Gradients of the position terms of the heads of the key head, as the task sums them; all zero between
  /// tasks.
  std::vector<A> bias;  // [group][row_size]
  Interval bias_touched;

  /// Relative keys, as tile and pieces need them; sizes in backward_terms.cpp.
  struct Relative {
    Tensor<A> memory;
    A* query_lanes;     // [2][head_dim][kLaneBlock]: the position queries
    A* query_rows;      // [kBackwardLanes][stride]
    A* dq_rows;         // [kBackwardLanes][stride]
    A* rows;            // [distances of a piece][stride]: r
    A* d_rows;          // as rows: dr
    A* products;        // [distances of a piece][kBackwardLanes]
    std::vector<A> dr;  // [group][distances of r][stride], as the task sums it
    Interval touched;   // distances of r, of dr
  } relative;
};

/// Adds the task's share to all gradients.
template <class T>
void run_task(BackwardCall<T>& call, const BackwardTask& task, BackwardScratch<T>& scratch, const Poll& poll);

}  // namespace longseq::detail
