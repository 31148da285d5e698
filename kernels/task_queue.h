// Tasks shared out among the threads of the caller's TBB arena, one queue for all: whoever is free takes the
// next.
#pragma once

#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <atomic>
#include <cstddef>
#include <thread>

#include "kernels/attention.h"

namespace longseq {

/// Calls run(task, scratch, poll) for tasks 0..count−1, which are taken up in this order; calls run at the
/// same time. Each thread makes its scratch, make_scratch(), before it takes up its first task, so that one
/// for which there is no memory leaves no task undone that another waits for. `poll` goes to the calling
/// thread's tasks alone.
template <class MakeScratch, class Run>
void run_queue(std::size_t count, const Poll& poll, const MakeScratch& make_scratch, const Run& run) {
  const auto caller = std::this_thread::get_id();
  std::atomic<std::size_t> next{0};
  tbb::parallel_for(0, tbb::this_task_arena::max_concurrency(), [&](int) {
    if (next >= count) return;
    const Poll own_poll = std::this_thread::get_id() == caller ? poll : Poll{};
    auto scratch = make_scratch();
    for (std::size_t task = next++; task < count; task = next++) run(task, scratch, own_poll);
  });
}

}  // namespace longseq
