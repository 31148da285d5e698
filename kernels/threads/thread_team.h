// A process's team of threads: a TBB arena, pinned one thread to a core where the process has its cores
// alone.
#pragma once

#include <tbb/global_control.h>
#include <tbb/task_arena.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "kernels/threads/topology.h"

namespace longseq {

class PinningObserver;

class ThreadTeam {
 public:
  /// `threads` >= 1, the calling thread among them. They are pinned if `cores` are exclusive and have as many
  /// hardware threads; else the operating system places them. Throws std::invalid_argument for threads < 1.
  ThreadTeam(int threads, const Cores& cores);
  /// On all that the calling thread may use, as if the process had it alone.
  explicit ThreadTeam(int threads);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  /// Runs f() inside the arena: every parallel algorithm in it uses this team.
  template <class F>
  auto run(F&& f) {
    return arena_.execute(std::forward<F>(f));
  }

  /// The sum of what one() gives on each thread, all starting together. A thread that TBB never sent counts
  /// nothing, one that was sent twice counts once.
  double sum(const std::function<double()>& one);

  int threads() const { return arena_.max_concurrency(); }

  /// What was done: "2 threads pinned to 0,1", or "2 threads, not pinned: <why>".
  const std::string& binding() const { return binding_; }

 private:
  tbb::global_control limit_;
  tbb::task_arena arena_;
  std::unique_ptr<PinningObserver> observer_;
  std::string binding_;
};

}  // namespace longseq
