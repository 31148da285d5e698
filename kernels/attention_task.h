// One task of the forward engine: what a thread takes up, works on alone, and puts down. Not for use outside
// kernels/.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <utility>

#include "kernels/attention.h"
#include "kernels/attention_tiles.h"

namespace longseq::detail {

inline constexpr std::int64_t kTilesPerTask = 4;  // they share each block of keys while it is in cache

/// What one thread works in: the tiles of a task, and the scores of one of them.
template <class T>
struct Scratch {
  explicit Scratch(std::int64_t head_dim)
      : memory({1, 1, kTilesPerTask * elements_per_tile(head_dim) + kTileKeys * kTileRows, 1}) {
    T* next = memory.data();
    const auto take = [&next](std::int64_t count) { return std::exchange(next, next + count); };
    for (QueryTile<T>& tile : tiles) {
      tile.queries = take(head_dim * kTileRows);
      tile.outputs = take(head_dim * kTileRows);
      tile.maximum = take(kTileRows);
      tile.sum = take(kTileRows);
      for (int i = 0; i < 2; ++i) {
        tile.visible_begin[i] = reinterpret_cast<Index<T>*>(take(kTileRows));
        tile.visible_end[i] = reinterpret_cast<Index<T>*>(take(kTileRows));
      }
      tile.head_dim = head_dim;
      tile.score_scale = static_cast<T>(kLog2E / std::sqrt(static_cast<double>(head_dim)));
    }
    scores = next;
  }
  static std::int64_t elements_per_tile(std::int64_t head_dim) { return (2 * head_dim + 6) * kTileRows; }

  Tensor<T> memory;
  std::array<QueryTile<T>, kTilesPerTask> tiles;
  T* scores;
};

/// Up to kTilesPerTask tiles of one query block, one batch entry and one head, over all its keys.
struct Task {
  std::int64_t block;
  std::int64_t batch;
  std::int64_t head;
  Interval rows;
  std::int64_t work;  // visible pairs
};

/// Takes all keys of the task's query block into the state of its rows. `poll` may be empty.
template <class T>
void run_task(const Pattern& pattern, const DistanceBias<T>& bias, const QueryBlock<T>& block,
              const Task& task, Scratch<T>& scratch, const Poll& poll);

}  // namespace longseq::detail
