// What a backward call does in which task. How keys are cut does not depend on the threads, so that the order
// of sums does not either. Not for use outside kernels/.
#pragma once

#include <span>
#include <vector>

#include "kernels/backward_task.h"

namespace longseq::detail {

/// Tasks: keys in ascending order, which in a causal pattern is the heaviest first; heads and batch entries
/// alternate within, so that neighbours do not wait for each other's dq.
template <class T>
std::vector<BackwardTask> plan_tasks(const Pattern& pattern, std::span<const GradientQueries<T>> queries,
                                     std::span<const GradientKeys<T>> keys);

/// The few keys that all queries see (global tokens), and for each tile that sees no other keys of their task
/// the one that takes them along: it has loaded the tile for its window anyway. Of one key block; none where
/// products are those of pairs or there are relative keys.
template <class T>
Guests invite_guests(const BackwardCall<T>& call, std::span<const BackwardTask> tasks);

}  // namespace longseq::detail
