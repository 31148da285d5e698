// This rank's team of threads: a TBB arena, pinned one thread to a core where the rank has its cores alone.
#pragma once

#include <tbb/global_control.h>
#include <tbb/task_arena.h>

#include <memory>
#include <string>
#include <utility>

#include "suite/placement.h"

namespace longseq {

class PinningObserver;

class ThreadTeam {
 public:
  /// `threads` >= 1, the calling thread among them. They are pinned if `placement` is exclusive and has as
  /// many hardware threads; else the operating system places them. Throws std::invalid_argument for
  /// threads < 1.
  ThreadTeam(int threads, const Placement& placement);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  /// Runs f() inside the arena: every parallel algorithm in it uses this team.
  template <class F>
  auto run(F&& f) {
    return arena_.execute(std::forward<F>(f));
  }

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
