// The order in which tasks add to gradients that they share: each goes through the tiles of queries in
// ascending order and adds to a tile once every earlier task has passed it, or, to what is no tile's, once
// every earlier task has left. So the order of sums is fixed, and no two tasks ever meet. Not for use outside
// kernels/.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/attention.h"

namespace longseq::detail {

/// Which tasks have passed which tile; shared by the tasks of one batch entry and key/value head.
class Procession {
 public:
  explicit Procession(std::size_t tasks, std::int64_t tiles = 0);
  /// Task `task` is done with all tiles before `tile`.
  void pass(std::size_t task, std::int64_t tile) { passed_[task].store(tile, std::memory_order_release); }
  void leave(std::size_t task) { pass(task, kDone); }
  /// Returns when every task before `task` has passed `tile`; calls `poll` (may be empty) meanwhile.
  void wait(std::size_t task, std::int64_t tile, const Poll& poll);
  /// Whether nobody has been given to at this tile before; from now on, somebody has. Only for the task whose
  /// turn it is.
  bool first_at(std::int64_t tile) {
    return std::exchange(met_[static_cast<std::size_t>(tile)], '\1') == '\0';
  }
  bool met(std::int64_t tile) const { return met_[static_cast<std::size_t>(tile)] != '\0'; }
  /// Returns when every task before `task` has left.
  void wait(std::size_t task, const Poll& poll) { wait(task, kDone - 1, poll); }

 private:
  static constexpr std::int64_t kDone = std::int64_t{1} << 62;
  std::unique_ptr<std::atomic<std::int64_t>[]> passed_;
  std::vector<char> met_;                     // not of bool: neighbours are written by different threads
  std::atomic<std::size_t> first_active_{0};  // all before it have left: where to begin to look
};

}  // namespace longseq::detail
