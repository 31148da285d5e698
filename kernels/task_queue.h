// Tasks shared out among the threads of the caller's TBB arena, one queue for all: whoever is free takes the
// next few.
#pragma once

#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <thread>
#include <tuple>
#include <utility>

#include "kernels/attention.h"

namespace longseq {

/// Calls run(task, scratch, poll) for tasks 0..count−1, which are taken up in this order, up to `most` at a
/// time, so that neighbours find in cache what they share; fewer towards the end, so that all threads end
/// together. Calls run at the same time. Each thread makes its scratch, make_scratch(), before it takes up
/// its first task, so that one for which there is no memory leaves no task undone that another waits for.
/// `poll` goes to the calling thread's tasks alone.
template <class MakeScratch, class Run>
void run_queue(std::size_t count, std::size_t most, const Poll& poll, const MakeScratch& make_scratch,
               const Run& run) {
  const auto caller = std::this_thread::get_id();
  const int threads = tbb::this_task_arena::max_concurrency();
  std::atomic<std::size_t> next{0};
  const auto take = [&] {
    std::size_t begin = next, end;
    do {
      const std::size_t left = count - std::min(begin, count);
      end = begin + std::clamp<std::size_t>(left / (4 * static_cast<std::size_t>(threads)), 1, most);
    } while (!next.compare_exchange_weak(begin, end));
    return std::pair(begin, std::min(end, count));
  };
  tbb::parallel_for(0, threads, [&](int) {
    if (next >= count) return;
    const Poll own_poll = std::this_thread::get_id() == caller ? poll : Poll{};
    auto scratch = make_scratch();
    for (auto [task, end] = take(); task < end; std::tie(task, end) = take()) {
      for (; task < end; ++task) run(task, scratch, own_poll);
    }
  });
}

}  // namespace longseq
