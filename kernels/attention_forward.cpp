#include <fmt/format.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <vector>

#include "kernels/attention.h"
#include "kernels/forward_task.h"
#include "kernels/parallel_rows.h"
#include "kernels/task_queue.h"

namespace longseq {
namespace {

using detail::ForwardScratch;
using detail::ForwardTask;
using detail::kForwardLanes;

// Tiles of the tasks that a thread takes up at once: where tasks weigh the same, neighbours, whose windows
// overlap.
constexpr std::int64_t kTilesTakenUp = 64;

/// Tiles of a task. They share each piece of keys while it is in cache. Where as many keys as a query sees,
/// on average, stay in a second-level cache of 1 MiB from task to task, two are enough, as many as may be
/// multiplied at once: more only oust each other's queries and outputs.
template <class T>
std::int64_t tiles_of_task(const Pattern& pattern, std::span<const QueryBlock<T>> blocks, bool relative,
                           std::int64_t threads) {
  constexpr std::int64_t kNearBytes = 600'000;
  std::int64_t tiles = 0, tokens = 0, pairs = 0;
  for (const QueryBlock<T>& block : blocks) {
    tiles += block.q.shape.batch * block.q.shape.heads * block.positions.count / kForwardLanes;
    tokens += block.positions.count;
    for (const KeyBlock<T>& keys : block.keys) pairs += pattern.area(block.positions, keys.positions);
  }
  const std::int64_t key_bytes = 2 * blocks.front().q.shape.head_dim * static_cast<std::int64_t>(sizeof(T));
  // What has to be widened or packed for a task is worth sharing in any case.
  const bool near = std::is_same_v<T, Accumulator<T>> && !relative &&
                    pairs / std::max<std::int64_t>(tokens, 1) * key_bytes <= kNearBytes;
  const std::int64_t most = detail::tiles_per_task<T>(relative);
  const std::int64_t tasks_per_thread = 64 / most;  // at least, so that all threads end together
  return std::clamp<std::int64_t>(tiles / (tasks_per_thread * threads), 1, near ? 2 : most);
}

/// The tasks of a call: one key and value head after the other, so that threads share its keys in cache;
/// within it the heaviest first, so that the last to finish are small. The query heads that share a key head
/// are folded into the rows of a task, unless each has relative keys of its own.
class Tasks {
 public:
  template <class T>
  Tasks(const Pattern& pattern, std::span<const QueryBlock<T>> blocks, bool relative,
        std::int64_t task_tiles) {
    const Shape& queries = blocks.front().q.shape;
    kv_heads_ = blocks.front().keys.empty() ? queries.heads : blocks.front().keys.front().k.shape.heads;
    group_ = queries.heads / kv_heads_;
    fold_ = relative ? 1 : group_;
    for (std::size_t index = 0; index < blocks.size(); ++index)
      add_strips(pattern, blocks[index], index, task_tiles * kForwardLanes);
    std::stable_sort(strips_.begin(), strips_.end(),
                     [](const Strip& a, const Strip& b) { return a.work > b.work; });
    count_ = strips_.size() * static_cast<std::size_t>(queries.batch * queries.heads / fold_);
  }

  std::size_t count() const { return count_; }

  ForwardTask operator[](std::size_t index) const {
    const auto folds = static_cast<std::size_t>(group_ / fold_),
               kv_heads = static_cast<std::size_t>(kv_heads_);
    const auto turn = static_cast<std::int64_t>(index % folds);
    const Strip& strip = strips_[index / folds % strips_.size()];
    const std::size_t head = index / folds / strips_.size();
    const auto kv_head = static_cast<std::int64_t>(head % kv_heads);
    return {strip.block,
            static_cast<std::int64_t>(head / kv_heads),
            kv_head,
            {kv_head * group_ + turn * fold_, fold_, strip.rows}};
  }

 private:
  /// Rows of a query block, the same of each head.
  struct Strip {
    std::size_t block;
    Interval rows;
    std::int64_t work;  // visible pairs of a head
  };

  template <class T>
  void add_strips(const Pattern& pattern, const QueryBlock<T>& block, std::size_t index, std::int64_t size) {
    const std::int64_t rows = block.positions.count * fold_;
    for (std::int64_t begin = 0; begin < rows; begin += size) {
      const Interval own{begin, std::min(begin + size, rows)};
      const Interval tokens{own.begin / fold_, (own.end - 1) / fold_ + 1};
      std::int64_t work = 0;
      for (const KeyBlock<T>& keys : block.keys)
        work += pattern.area(block.positions.slice(tokens), keys.positions);
      if (work > 0 || block.result.wanted()) strips_.push_back({index, own, work});
    }
  }

  std::vector<Strip> strips_;
  std::int64_t kv_heads_ = 1, group_ = 1, fold_ = 1;
  std::size_t count_ = 0;
};

template <class T>
void check(std::span<const QueryBlock<T>> blocks, bool relative) {
  const Shape& first = blocks.front().q.shape;
  for (const QueryBlock<T>& block : blocks) {
    const Shape& own = block.q.shape;
    const std::int64_t head_dim = own.head_dim;
    if (head_dim < 1 || head_dim > kMaxHeadDim || head_dim != first.head_dim) {
      throw std::invalid_argument(
          fmt::format("head-dim is {}; expected 1 to {}, the same in every block", head_dim, kMaxHeadDim));
    }
    if (own.batch != first.batch || own.heads != first.heads) {
      throw std::invalid_argument(
          fmt::format("a query block has {} sequences of {} heads; expected {} of {}, as in the first",
                      own.batch, own.heads, first.batch, first.heads));
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
  const std::int64_t task_tiles =
      tiles_of_task(pattern, blocks, relative, tbb::this_task_arena::max_concurrency());
  const Tasks tasks(pattern, blocks, relative, task_tiles);
  const std::int64_t head_dim = blocks.front().q.shape.head_dim;
  run_queue(
      tasks.count(), static_cast<std::size_t>(kTilesTakenUp / task_tiles), poll,
      [&] { return ForwardScratch<T>(head_dim, relative, task_tiles); },
      [&](std::size_t index, ForwardScratch<T>& scratch, const Poll& own_poll) {
        const ForwardTask task = tasks[index];
        const ForwardTask after = index + 1 < tasks.count() ? tasks[index + 1] : ForwardTask{};
        run_task(pattern, terms, blocks[task.block], task, after, scratch, own_poll);
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
  return static_cast<std::int64_t>(sizeof(Accumulator<T>)) *
         ForwardScratch<T>::elements(head_dim, relative, detail::tiles_per_task<T>(relative));
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
