// One task of the forward engine: what a thread takes up, works on alone, and puts down. Not for use outside
// kernels/.
#pragma once

#include <cstdint>
#include <type_traits>
#include <vector>

#include "kernels/attention.h"
#include "kernels/tiles/forward_tile.h"
#include "kernels/tiles/relative_scores.h"

namespace longseq::detail {

inline constexpr std::int64_t kTilesPerTask = 16;  // at most

/// Tiles of a task, at most: they share each piece of keys while it is in cache. What is stored in bfloat16
/// is packed first, for as many as fit; relative keys need so much beside each tile that only half as many
/// do.
template <class T>
constexpr std::int64_t tiles_per_task(bool relative) {
  const std::int64_t packed = std::is_same_v<T, Accumulator<T>> ? kTilesPerTask / 2 : kTilesPerTask;
  return relative ? packed / 2 : packed;
}

/// What one thread works in: the tiles of a task, the scores of one or two of them, a piece of keys in the
/// type that is computed in where it is stored in another, and the products with relative keys.
template <class T>
struct ForwardScratch {
  using A = Accumulator<T>;
  /// For tasks of `task_tiles` at most.
  ForwardScratch(std::int64_t head_dim, bool relative, std::int64_t task_tiles);
  /// Elements of A that one takes.
  static std::int64_t elements(std::int64_t head_dim, bool relative, std::int64_t task_tiles);

  Tensor<A> memory;
  std::vector<ForwardTile<A>> tiles;
  std::vector<Outlook> outlooks;            // of the tiles on the key block at work
  Piece pieces[2];                          // of the tiles at work
  std::vector<RelativeScores<A>> relative;  // of the tiles, where there are relative keys
  A* scores;                                // [kForwardKeys][kForwardLanes]
  A* scores_beside;                         // the same of a tile beside it; null where T is not A
  Pair* weights;                            // [kForwardKeys / 2][kForwardLanes]; null where T is A
  A* k;  // [kForwardKeys][head_dim], as v; or their pairs; null where T is A
  A* v;
  Coming coming;
  std::int64_t turn = 0;            // pieces taken so far
  const void* last_keys = nullptr;  // of the task before, and the rows of them that it saw
  Interval last_seen[2];
};

/// Up to kTilesPerTask tiles of one query block, one batch entry and one key/value head, over all its keys.
struct ForwardTask {
  std::size_t block;
  std::int64_t batch;
  std::int64_t kv_head;
  FoldedRows queries;
};

/// Takes all keys of the task's query block into the state of its rows, or their result. `after`: the task
/// that the thread most likely takes up next; it has no rows if there is none. `poll` may be empty.
template <class T>
void run_task(const Pattern& pattern, const PositionTerms<Accumulator<T>>& terms, const QueryBlock<T>& block,
              const ForwardTask& task, const ForwardTask& after, ForwardScratch<T>& scratch,
              const Poll& poll);

}  // namespace longseq::detail
