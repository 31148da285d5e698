#include "kernels/attention_backward.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "kernels/backward_task.h"
#include "kernels/parallel_rows.h"
#include "kernels/task_queue.h"
#include "kernels/tiles/pairs.h"
#include "kernels/tiles/relative_scores.h"

namespace longseq {
namespace {

using detail::BackwardCall;
using detail::BackwardScratch;
using detail::BackwardTask;
using detail::kBackwardLanes;
using detail::Procession;

/// Tasks: keys in ascending order, which in a causal pattern is the heaviest first; heads and batch entries
/// alternate within, so that neighbours do not wait for each other's dq. How keys are cut does not depend on
/// the threads.
template <class T>
std::vector<BackwardTask> plan_tasks(const Pattern& pattern, std::span<const GradientQueries<T>> queries,
                                     std::span<const GradientKeys<T>> keys) {
  const Shape& shape = keys.front().k.shape;
  std::int64_t all_keys = 0;
  for (const GradientKeys<T>& block : keys) all_keys += shape.batch * shape.heads * block.positions.count;
  constexpr std::int64_t kFewestTasks = 32;
  const std::int64_t pieces = std::max<std::int64_t>(all_keys / (kFewestTasks * detail::kBackwardKeys), 1);
  const std::int64_t task_keys =
      std::min(detail::most_task_keys(shape.head_dim), pieces * detail::kBackwardKeys);
  std::vector<BackwardTask> tasks;
  std::vector<std::size_t> places(static_cast<std::size_t>(shape.batch * shape.heads)), places_terms(places);
  for (std::size_t index = 0; index < keys.size(); ++index) {
    const Run positions = keys[index].positions;
    for (std::int64_t begin = 0; begin < positions.count; begin += task_keys) {
      const Interval own{begin, std::min(begin + task_keys, positions.count)};
      std::int64_t work = 0;
      for (const std::size_t block : keys[index].queries)
        work += pattern.area(queries[block].positions, positions.slice(own));
      if (work == 0) continue;
      for (std::int64_t b = 0; b < shape.batch; ++b) {
        for (std::int64_t h = 0; h < shape.heads; ++h) {
          tasks.push_back({index, b, h, own, places[static_cast<std::size_t>(b * shape.heads + h)]++,
                           places_terms[static_cast<std::size_t>(h)]++});
        }
      }
    }
  }
  return tasks;
}

template <class T>
void check(std::span<const GradientQueries<T>> queries, std::span<const GradientKeys<T>> keys,
           bool relative) {
  const std::int64_t head_dim = keys.front().k.shape.head_dim;
  const bool same = std::all_of(keys.begin(), keys.end(),
                                [&](const auto& block) { return block.k.shape.head_dim == head_dim; }) &&
                    std::all_of(queries.begin(), queries.end(),
                                [&](const auto& block) { return block.q.shape.head_dim == head_dim; });
  if (head_dim < 1 || head_dim > kMaxHeadDim || !same) {
    throw std::invalid_argument(
        fmt::format("head-dim is {}; expected 1 to {}, the same in every block", head_dim, kMaxHeadDim));
  }
  for (const GradientKeys<T>& block : keys) {
    for (const std::size_t index : block.queries) {
      if (relative) detail::expect_equal_spacing(queries[index].positions, block.positions);
    }
  }
}

template <class A>
void set_to_zero(TensorView<A> tensor) {
  parallel_rows(tensor.shape, [&](std::int64_t b, std::int64_t h, std::int64_t t) {
    std::fill_n(tensor.row(b, h, t), tensor.shape.head_dim, A{0});
  });
}

}  // namespace

template <class T>
void attention_delta(TensorView<const T> o, TensorView<const T> d_o, TensorView<Accumulator<T>> delta) {
  using A = Accumulator<T>;
  parallel_rows(o.shape, [&](std::int64_t b, std::int64_t h, std::int64_t t) {
    double sum = 0;
    const T* left = o.row(b, h, t);
    const T* right = d_o.row(b, h, t);
    for (std::int64_t d = 0; d < o.shape.head_dim; ++d)
      sum += static_cast<double>(left[d]) * static_cast<double>(right[d]);
    *delta.row(b, h, t) = static_cast<A>(sum);
  });
}

template <class T>
void attend_backward(const Pattern& pattern, const PositionTerms<Accumulator<T>>& terms,
                     std::span<const GradientQueries<T>> queries, std::span<const GradientKeys<T>> keys,
                     const TermGradients<Accumulator<T>>& gradients, const Poll& poll) {
  if (queries.empty() || keys.empty()) return;
  check(queries, keys, terms.relative.present());
  const std::vector<BackwardTask> tasks = plan_tasks(pattern, queries, keys);
  const Shape& shape = keys.front().k.shape;
  const std::int64_t group = queries.front().q.shape.heads / shape.heads;
  const bool relative = terms.relative.present();
  const auto all_in_pairs = [](const auto& blocks, auto member) {
    return std::all_of(blocks.begin(), blocks.end(),
                       [member](const auto& block) { return detail::lies_in_pairs(block.*member); });
  };
  const bool by_pairs = detail::may_use_pairs<T>(relative) && all_in_pairs(queries, &GradientQueries<T>::q) &&
                        all_in_pairs(queries, &GradientQueries<T>::d_o) &&
                        all_in_pairs(keys, &GradientKeys<T>::k) && all_in_pairs(keys, &GradientKeys<T>::v);
  BackwardCall<T> call{pattern, terms, queries, keys, gradients, by_pairs, relative ? 1 : group, {0}, {}, {}};
  for (const GradientQueries<T>& block : queries) {
    const std::int64_t tiles = (block.positions.count * call.fold + kBackwardLanes - 1) / kBackwardLanes;
    call.first_tile.push_back(call.first_tile.back() + tiles);
  }
  const std::size_t lines = static_cast<std::size_t>(shape.batch * shape.heads);
  for (std::size_t line = 0; line < lines; ++line) call.by_batch_head.emplace_back(tasks.size() / lines);
  for (std::int64_t h = 0; h < shape.heads; ++h)
    call.by_head.emplace_back(tasks.size() / static_cast<std::size_t>(shape.heads));
  run_queue(
      tasks.size(), poll, [&] { return BackwardScratch<T>(call); },
      [&](std::size_t index, BackwardScratch<T>& scratch, const Poll& own_poll) {
        run_task(call, tasks[index], scratch, own_poll);
      });
}

template <class T>
void attention_backward(const Pattern& pattern, const PositionTerms<Accumulator<T>>& terms,
                        const AttentionInputs<T>& inputs, TensorView<const T> o,
                        TensorView<const Accumulator<T>> lse, TensorView<const T> d_o,
                        const InputGradients<Accumulator<T>>& out,
                        const TermGradients<Accumulator<T>>& gradients) {
  using A = Accumulator<T>;
  const Shape& shape = inputs.q.shape;
  Tensor<A> delta({shape.batch, shape.heads, shape.tokens, 1});
  attention_delta<T>(o, d_o, delta.view());
  for (const TensorView<A>& tensor : {out.dq, out.dk, out.dv}) set_to_zero(tensor);
  if (terms.relative.present()) set_to_zero(out.d_position_q);
  const GradientQueries<T> queries{
      inputs.q,        d_o, lse, std::as_const(delta).view(), {0, 1, shape.tokens}, out.dq, inputs.position_q,
      out.d_position_q};
  const GradientKeys<T> keys{inputs.k, inputs.v, {0, 1, inputs.k.shape.tokens}, out.dk, out.dv, {0}};
  attend_backward<T>(pattern, terms, std::span(&queries, 1), std::span(&keys, 1), gradients);
}

template <class T>
std::int64_t attention_backward_scratch_bytes(std::int64_t head_dim) {
  return static_cast<std::int64_t>(sizeof(Accumulator<T>)) * BackwardScratch<T>::elements(head_dim);
}

#define LONGSEQ_INSTANTIATE(T)                                                                              \
  template void attention_delta<T>(TensorView<const T>, TensorView<const T>, TensorView<Accumulator<T>>);   \
  template void attend_backward<T>(const Pattern&, const PositionTerms<Accumulator<T>>&,                    \
                                   std::span<const GradientQueries<T>>, std::span<const GradientKeys<T>>,   \
                                   const TermGradients<Accumulator<T>>&, const Poll&);                      \
  template void attention_backward<T>(                                                                      \
      const Pattern&, const PositionTerms<Accumulator<T>>&, const AttentionInputs<T>&, TensorView<const T>, \
      TensorView<const Accumulator<T>>, TensorView<const T>, const InputGradients<Accumulator<T>>&,         \
      const TermGradients<Accumulator<T>>&);                                                                \
  template std::int64_t attention_backward_scratch_bytes<T>(std::int64_t);
LONGSEQ_INSTANTIATE(float)
LONGSEQ_INSTANTIATE(double)
LONGSEQ_INSTANTIATE(BFloat16)
#undef LONGSEQ_INSTANTIATE

}  // namespace longseq
