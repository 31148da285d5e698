#include "kernels/attention.h"

#include <fmt/format.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <thread>
#include <tuple>

#include "kernels/attention_task.h"
#include "kernels/parallel_rows.h"

namespace longseq {
namespace {

using detail::kTileKeys;
using detail::kTileRows;
using detail::kTilesPerTask;
using detail::Scratch;
using detail::Task;

constexpr double kLn2 = 0.69314718055994530942;

/// Tasks: one key and value head after the other, so that all threads share its keys in cache; within it the
/// heaviest first, so that the last to finish are small.
template <class T>
std::vector<Task> plan_tasks(const Pattern& pattern, std::span<const QueryBlock<T>> blocks,
                             std::int64_t threads) {
  std::int64_t tiles = 0;
  for (const QueryBlock<T>& block : blocks) {
    tiles +=
        block.q.shape.batch * block.q.shape.heads * ((block.positions.count + kTileRows - 1) / kTileRows);
  }
  const std::int64_t tiles_per_task = std::clamp<std::int64_t>(tiles / (8 * threads), 1, kTilesPerTask);
  std::vector<Task> tasks;
  for (std::size_t index = 0; index < blocks.size(); ++index) {
    const QueryBlock<T>& block = blocks[index];
    for (std::int64_t begin = 0; begin < block.positions.count; begin += tiles_per_task * kTileRows) {
      const Interval rows{begin, std::min(begin + tiles_per_task * kTileRows, block.positions.count)};
      std::int64_t work = 0;
      for (const KeyBlock<T>& keys : block.keys)
        work += pattern.area(block.positions.slice(rows), keys.positions);
      if (work == 0) continue;
      for (std::int64_t b = 0; b < block.q.shape.batch; ++b) {
        for (std::int64_t h = 0; h < block.q.shape.heads; ++h) {
          tasks.push_back({static_cast<std::int64_t>(index), b, h, rows, work});
        }
      }
    }
  }
  const std::int64_t group = blocks.front().q.shape.heads / blocks.front().keys.front().k.shape.heads;
  std::stable_sort(tasks.begin(), tasks.end(), [group](const Task& a, const Task& b) {
    return std::tuple(a.batch, a.head / group, -a.work) < std::tuple(b.batch, b.head / group, -b.work);
  });
  return tasks;
}

template <class T>
void expect_same_head_dim(std::span<const QueryBlock<T>> blocks) {
  for (const QueryBlock<T>& block : blocks) {
    const std::int64_t head_dim = block.q.shape.head_dim;
    if (head_dim < 1 || head_dim > kMaxHeadDim || head_dim != blocks.front().q.shape.head_dim) {
      throw std::invalid_argument(
          fmt::format("head-dim is {}; expected 1 to {}, the same in every block", head_dim, kMaxHeadDim));
    }
  }
}

}  // namespace

template <class T>
void begin_attention(const AttentionState<T>& state) {
  parallel_rows(state.sum.shape, [&](std::int64_t b, std::int64_t h, std::int64_t t) {
    *state.maximum.row(b, h, t) = -std::numeric_limits<T>::infinity();
    *state.sum.row(b, h, t) = 0;
  });
}

template <class T>
void attend(const Pattern& pattern, const DistanceBias<T>& bias, std::span<const QueryBlock<T>> blocks,
            const Poll& poll) {
  if (blocks.empty()) return;
  expect_same_head_dim(blocks);
  const int threads = tbb::this_task_arena::max_concurrency();
  const std::vector<Task> tasks = plan_tasks(pattern, blocks, threads);
  const std::int64_t head_dim = blocks.front().q.shape.head_dim;
  const auto caller = std::this_thread::get_id();
  std::atomic<std::size_t> next{0};
  tbb::parallel_for(0, threads, [&](int) {
    const Poll own_poll = std::this_thread::get_id() == caller ? poll : Poll{};
    std::size_t index = next++;
    if (index >= tasks.size()) return;
    Scratch<T> scratch(head_dim);
    for (; index < tasks.size(); index = next++) {
      run_task(pattern, bias, blocks[static_cast<std::size_t>(tasks[index].block)], tasks[index], scratch,
               own_poll);
    }
  });
}

template <class T>
void finish_attention(const AttentionState<T>& state, TensorView<T> lse) {
  const std::int64_t head_dim = state.o.shape.head_dim;
  parallel_rows(state.o.shape, [&](std::int64_t b, std::int64_t h, std::int64_t t) {
    const T sum = *state.sum.row(b, h, t);
    T* out = state.o.row(b, h, t);
    if (sum == T{0}) {
      std::fill_n(out, head_dim, T{0});
      *lse.row(b, h, t) = -std::numeric_limits<T>::infinity();
      return;
    }
    for (std::int64_t d = 0; d < head_dim; ++d) out[d] /= sum;
    const auto maximum = static_cast<double>(*state.maximum.row(b, h, t));
    *lse.row(b, h, t) = static_cast<T>(kLn2 * (maximum + std::log2(static_cast<double>(sum))));
  });
}

template <class T>
void attention_forward(const Pattern& pattern, const DistanceBias<T>& bias, TensorView<const T> q,
                       TensorView<const T> k, TensorView<const T> v, TensorView<T> o, TensorView<T> lse) {
  Tensor<T> maximum({q.shape.batch, q.shape.heads, q.shape.tokens, 1});
  Tensor<T> sum(maximum.shape());
  const AttentionState<T> state{o, maximum.view(), sum.view()};
  begin_attention(state);
  const QueryBlock<T> block{q, {0, 1, q.shape.tokens}, state, {{k, v, {0, 1, k.shape.tokens}}}};
  attend<T>(pattern, bias, std::span(&block, 1));
  finish_attention(state, lse);
}

template <class T>
std::int64_t attention_scratch_bytes(std::int64_t head_dim) {
  return static_cast<std::int64_t>(sizeof(T)) *
         (kTilesPerTask * Scratch<T>::elements_per_tile(head_dim) + kTileKeys * kTileRows);
}

#define LONGSEQ_INSTANTIATE(T)                                                                    \
  template void begin_attention<T>(const AttentionState<T>&);                                     \
  template void attend<T>(const Pattern&, const DistanceBias<T>&, std::span<const QueryBlock<T>>, \
                          const Poll&);                                                           \
  template void finish_attention<T>(const AttentionState<T>&, TensorView<T>);                     \
  template void attention_forward<T>(const Pattern&, const DistanceBias<T>&, TensorView<const T>, \
                                     TensorView<const T>, TensorView<const T>, TensorView<T>,     \
                                     TensorView<T>);                                              \
  template std::int64_t attention_scratch_bytes<T>(std::int64_t);
LONGSEQ_INSTANTIATE(float)
LONGSEQ_INSTANTIATE(double)
#undef LONGSEQ_INSTANTIATE

}  // namespace longseq
