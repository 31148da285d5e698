// For tests: calls by a number of threads that the caller says.
#pragma once

#include <tbb/global_control.h>
#include <tbb/task_arena.h>

#include <cstddef>

namespace longseq {

/// work() in a TBB arena of so many threads, which are all that there are meanwhile.
template <class Work>
auto with_threads(int threads, const Work& work) {
  const tbb::global_control limit(tbb::global_control::max_allowed_parallelism,
                                  static_cast<std::size_t>(threads));
  return tbb::task_arena(threads).execute(work);
}

}  // namespace longseq
