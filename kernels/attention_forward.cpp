#include <fmt/format.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <tuple>

#include "kernels/attention.h"
#include "kernels/forward_task.h"
#include "kernels/parallel_rows.h"
#include "kernels/task_queue.h"

namespace longseq {
namespace {

using detail::ForwardScratch;
using detail::ForwardTask;
using detail::kForwardLanes;

constexpr std::size_t kTasksAtOnce = 8;  // where they weigh the same, neighbours, whose windows overlap

/// Tasks: one key and value head after the other, so that threads share its keys in cache; within it the
/// heaviest first, so that the last to finish are small. The query heads that share a key head are folded
/// into the rows of a task, unless each has relative keys of its own.
template <class T>
std::vector<ForwardTask> plan_tasks(const Pattern& pattern, std::span<const QueryBlock<T>> blocks,
                                    bool relative, std::int64_t threads) {
  const std::int64_t heads = blocks.front().q.shape.heads;
  const std::int64_t kv_heads =
      blocks.front().keys.empty() ? heads : blocks.front().keys.front().k.shape.heads;
  const std::int64_t group = heads / kv_heads;
  const std::int64_t fold = relative ? 1 : group;
  std::int64_t tiles = 0;
  for (const QueryBlock<T>& block : blocks)
    tiles += block.q.shape.batch * heads * block.positions.count / kForwardLanes;
  const std::int64_t most = detail::tiles_per_task<T>(relative);
  const std::int64_t tasks_per_thread = 64 / most;  // at least, so that all threads end together
  const std::int64_t task_tiles = std::clamp<std::int64_t>(tiles / (tasks_per_thread * threads), 1, most);
  std::vector<ForwardTask> tasks;
  for (std::size_t index = 0; index < blocks.size(); ++index) {
    const QueryBlock<T>& block = blocks[index];
    const std::int64_t rows = block.positions.count * fold;
    for (std::int64_t begin = 0; begin < rows; begin += task_tiles * kForwardLanes) {
      const Interval own{begin, std::min(begin + task_tiles * kForwardLanes, rows)};
      const Interval tokens{own.begin / fold, (own.end - 1) / fold + 1};
      std::int64_t work = 0;
      for (const KeyBlock<T>& keys : block.keys)
        work += pattern.area(block.positions.slice(tokens), keys.positions);
      if (work == 0 && !block.result.wanted()) continue;
      for (std::int64_t b = 0; b < block.q.shape.batch; ++b) {
        for (std::int64_t h = 0; h < heads; h += fold)
          tasks.push_back({index, b, h / group, {h, fold, own}, work});
      }
    }
  }
  std::stable_sort(tasks.begin(), tasks.end(), [](const ForwardTask& a, const ForwardTask& b) {
    return std::tuple(a.batch, a.kv_head, -a.work) < std::tuple(b.batch, b.kv_head, -b.work);
  });
  return tasks;
}

template <class T>
void check(std::span<const QueryBlock<T>> blocks, bool relative) {
  for (const QueryBlock<T>& block : blocks) {
    const std::int64_t head_dim = block.q.shape.head_dim;
    if (head_dim < 1 || head_dim > kMaxHeadDim || head_dim != blocks.front().q.shape.head_dim) {
      throw std::invalid_argument(
          fmt::format("head-dim is {}; expected 1 to {}, the same in every block", head_dim, kMaxHeadDim));
    }
    if (!block.state.present() && !block.result.wanted())
      throw std::invalid_argument("a query block has neither a state nor a result; expected one or both");
    for (const KeyBlock<T>& keys : block.keys) {
      if (relative) detail::expect_equal_spacing(block.positions, keys.positions);
    }
  }
}

}  // namespace

template <class A>
void begin_attention(const AttentionState<A>& state) {
  parallel_rows(state.sum.shape, [&](std::int64_t b, std::int64_t h, std::int64_t t) {
    *state.maximum.row(b, h, t) = -std::numeric_limits<A>::infinity();
    *state.sum.row(b, h, t) = 0;
  });
}

template <class T>
void attend(const Pattern& pattern, const PositionTerms<Accumulator<T>>& terms,
            std::span<const QueryBlock<T>> blocks, const Poll& poll) {
  if (blocks.empty()) return;
  const bool relative = terms.relative.present();
  check(blocks, relative);
  const int threads = tbb::this_task_arena::max_concurrency();
  const std::vector<ForwardTask> tasks = plan_tasks(pattern, blocks, relative, threads);
  const std::int64_t head_dim = blocks.front().q.shape.head_dim;
  run_queue(
      tasks.size(), kTasksAtOnce, poll, [&] { return ForwardScratch<T>(head_dim, relative); },
      [&](std::size_t index, ForwardScratch<T>& scratch, const Poll& own_poll) {
        run_task(pattern, terms, blocks[tasks[index].block], tasks[index], scratch, own_poll);
      });
}

template <class T>
void finish_attention(const AttentionState<Accumulator<T>>& state, TensorView<T> o,
                      TensorView<Accumulator<T>> lse) {
  using A = Accumulator<T>;
  constexpr std::int64_t kRows = detail::kForwardLanes;
  const std::int64_t head_dim = state.o.shape.head_dim;
  parallel_row_blocks(state.o.shape, kRows, [&](std::int64_t b, std::int64_t h, Interval tokens) {
    alignas(64) A maximum[kRows]{}, sum[kRows]{}, own_lse[kRows], factors[kRows];
    for (std::int64_t t = 0; t < tokens.size(); ++t) {
      maximum[t] = *state.maximum.row(b, h, tokens.begin + t);
      sum[t] = *state.sum.row(b, h, tokens.begin + t);
    }
    detail::finish_rows(maximum, sum, own_lse, factors);
    for (std::int64_t t = 0; t < tokens.size(); ++t) {
      *lse.row(b, h, tokens.begin + t) = own_lse[t];
      const A* in = state.o.row(b, h, tokens.begin + t);
      T* out = o.row(b, h, tokens.begin + t);
      // A row that has seen no key has outputs that may be uninitialised.
      for (std::int64_t d = 0; d < head_dim; ++d)
        out[d] = sum[t] == A{0} ? T{} : static_cast<T>(in[d] * factors[t]);
    }
  });
}

template <class T>
void attention_forward(const Pattern& pattern, const PositionTerms<Accumulator<T>>& terms,
                       const AttentionInputs<T>& inputs, TensorView<T> o, TensorView<Accumulator<T>> lse) {
  const QueryBlock<T> block{inputs.q,
                            {0, 1, inputs.q.shape.tokens},
                            {},
                            {{inputs.k, inputs.v, {0, 1, inputs.k.shape.tokens}}},
                            {o, lse}};
  attend<T>(pattern, terms, std::span(&block, 1));
}

template <class T>
std::int64_t attention_scratch_bytes(std::int64_t head_dim, bool relative) {
  return static_cast<std::int64_t>(sizeof(Accumulator<T>)) * ForwardScratch<T>::elements(head_dim, relative);
}

#define LONGSEQ_INSTANTIATE(T)                                                                              \
  template void attend<T>(const Pattern&, const PositionTerms<Accumulator<T>>&,                             \
                          std::span<const QueryBlock<T>>, const Poll&);                                     \
  template void finish_attention<T>(const AttentionState<Accumulator<T>>&, TensorView<T>,                   \
                                    TensorView<Accumulator<T>>);                                            \
  template void attention_forward<T>(const Pattern&, const PositionTerms<Accumulator<T>>&,                  \
                                     const AttentionInputs<T>&, TensorView<T>, TensorView<Accumulator<T>>); \
  template std::int64_t attention_scratch_bytes<T>(std::int64_t, bool);
LONGSEQ_INSTANTIATE(float)
LONGSEQ_INSTANTIATE(double)
LONGSEQ_INSTANTIATE(BFloat16)
#undef LONGSEQ_INSTANTIATE
template void begin_attention<float>(const AttentionState<float>&);
template void begin_attention<double>(const AttentionState<double>&);

}  // namespace longseq
