// The keys of a backward task on their way through the second-level cache: packed when a tile first sees
// them, their gradients given once no later tile does, so that their lines come and go while there is work to
// do. Not for use outside kernels/.
#pragma once

#include "kernels/backward_task.h"

namespace longseq::detail {

/// Nothing is loaded, no gradient holds anything.
template <class T>
void begin_keys(const BackwardTask& task, BackwardScratch<T>& scratch);

/// Asks for the keys that come next.
template <class T>
void ask_for_keys(const BackwardCall<T>& call, const BackwardTask& task, BackwardScratch<T>& scratch);

/// Packs the task's keys before row `end` of the block, and some more.
template <class T>
void load_keys(const BackwardCall<T>& call, const BackwardTask& task, std::int64_t end,
               BackwardScratch<T>& scratch);

/// Gives the gradients of the keys before row `end` of the block, to which nothing will be added, and asks
/// for the places of the next.
template <class T>
void store_keys(const BackwardCall<T>& call, const BackwardTask& task, std::int64_t end,
                BackwardScratch<T>& scratch);

/// Before tile `number` of the procession: gives the sums of all loaded keys, and begins others, if they are
/// of an earlier part of it, of kTilesSummed tiles. Long sums in f32 round more than several short ones; and
/// where they are cut must not depend on which keys share a task.
template <class T>
void limit_sums(const BackwardCall<T>& call, const BackwardTask& task, std::int64_t number,
                BackwardScratch<T>& scratch);

/// Packs the guests' keys, unless the task has them.
template <class T>
void load_guests(const BackwardCall<T>& call, const BackwardTask& task, BackwardScratch<T>& scratch);

/// Adds to the guests' gradients what the task has summed of them, when it is the task's turn.
template <class T>
void store_guests(BackwardCall<T>& call, const BackwardTask& task, BackwardScratch<T>& scratch,
                  const Poll& poll);

}  // namespace longseq::detail
