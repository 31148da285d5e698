#include "kernels/attention_backward.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <functional>
#include <stdexcept>

#include "kernels/backward_plan.h"
#include "kernels/backward_task.h"
#include "kernels/backward_terms.h"
#include "kernels/parallel_rows.h"
#include "kernels/task_queue.h"
#include "kernels/tiles/pairs.h"
#include "kernels/tiles/relative_scores.h"
#include "kernels/tiles/row_dot.h"

namespace longseq {
namespace {

using detail::BackwardCall;
using detail::BackwardScratch;
using detail::BackwardTask;
using detail::kBackwardLanes;
using detail::Procession;

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
    // Tasks follow each other through the tiles: one that went back would meet another (procession.h).
    if (!std::is_sorted(block.queries.begin(), block.queries.end(), std::less_equal<>())) {
      throw std::invalid_argument(
          fmt::format("a key block lists the query blocks {}; expected ascending numbers",
                      fmt::join(block.queries, ", ")));
    }
    for (const std::size_t index : block.queries) {
      if (relative) detail::expect_equal_spacing(queries[index].positions, block.positions);
    }
  }
}

/// What no task has written although it would have been the first.
template <class T>
void set_unmet_to_zero(BackwardCall<T>& call) {
  using A = Accumulator<T>;
  const Shape& shape = call.keys.front().k.shape;
  const auto per_head = [&](std::int64_t batch, std::int64_t kv_head, std::int64_t pass, std::size_t index) {
    const GradientQueries<T>& block = call.queries[index];
    for (std::int64_t tile = 0; tile < call.tiles(index); ++tile) {
      if (call.procession(batch, kv_head).met(call.tile_number(pass, index, tile))) continue;
      const detail::FoldedRows rows = call.rows(index, kv_head, pass, tile);
      rows.for_each([&](std::int64_t /*lane*/, std::int64_t head, std::int64_t token) {
        std::fill_n(block.dq.row(batch, head, token), block.dq.shape.head_dim, A{0});
      });
    }
  };
  tbb::parallel_for(std::int64_t{0}, shape.batch * shape.heads * call.passes(), [&](std::int64_t work) {
    const std::int64_t line = work / call.passes();
    for (std::size_t index = 0; index < call.queries.size(); ++index) {
      if (call.queries[index].first)
        per_head(line / shape.heads, line % shape.heads, work % call.passes(), index);
    }
  });
}

}  // namespace

template <class T>
void attention_delta(TensorView<const T> o, TensorView<const T> d_o, TensorView<Accumulator<T>> delta) {
  using A = Accumulator<T>;
  parallel_rows(o.shape, [&](std::int64_t b, std::int64_t h, std::int64_t t) {
    *delta.row(b, h, t) =
        static_cast<A>(detail::dot_rows(o.row(b, h, t), d_o.row(b, h, t), o.shape.head_dim));
  });
}

template <class T>
void attend_backward(const Pattern& pattern, const PositionTerms<Accumulator<T>>& terms,
                     std::span<const GradientQueries<T>> queries, std::span<const GradientKeys<T>> keys,
                     const TermGradients<Accumulator<T>>& gradients, const Poll& poll) {
  if (queries.empty() || keys.empty()) {
    for (const GradientQueries<T>& block : queries) {
      if (block.first) set_to_zero(block.dq);
    }
    for (const GradientKeys<T>& block : keys) {
      set_to_zero(block.dk.tokens(block.first));
      set_to_zero(block.dv.tokens(block.first));
    }
    return;
  }
  check(queries, keys, terms.relative.present());
  const std::vector<BackwardTask> tasks = detail::plan_tasks(pattern, queries, keys);
  const Shape& shape = keys.front().k.shape;
  const std::int64_t group = queries.front().q.shape.heads / shape.heads;
  const bool relative = terms.relative.present();
  const auto all_in_pairs = [](const auto& blocks, auto member) {
    return std::all_of(blocks.begin(), blocks.end(),
                       [member](const auto& block) { return detail::lies_in_pairs(block.*member); });
  };
  const bool in_pairs = all_in_pairs(queries, &GradientQueries<T>::q) &&
                        all_in_pairs(queries, &GradientQueries<T>::d_o) &&
                        all_in_pairs(keys, &GradientKeys<T>::k) && all_in_pairs(keys, &GradientKeys<T>::v);
  const PairProducts products =
      in_pairs ? detail::pair_products_of<T>(shape.head_dim, relative) : PairProducts::none;
  BackwardCall<T> call{pattern, terms, queries, keys, gradients, products, relative ? 1 : group,
                       {0},     {},    {},      {}};
  for (const GradientQueries<T>& block : queries) {
    call.first_tile.push_back(call.first_tile.back() +
                              detail::tiles_before(block.positions.count * call.fold));
  }
  call.guests = detail::invite_guests(call, tasks);
  const std::size_t lines = static_cast<std::size_t>(shape.batch * shape.heads);
  for (std::size_t line = 0; line < lines; ++line)
    call.by_batch_head.emplace_back(tasks.size() / lines, call.passes() * call.first_tile.back());
  for (std::int64_t h = 0; h < shape.heads; ++h)
    call.by_head.emplace_back(tasks.size() / static_cast<std::size_t>(shape.heads));
  run_queue(
      tasks.size(), 1, poll, [&] { return BackwardScratch<T>(call); },
      [&](std::size_t index, BackwardScratch<T>& scratch, const Poll& own_poll) {
        run_task(call, tasks[index], scratch, own_poll);
      });
  set_unmet_to_zero(call);
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
  const Run tokens{0, 1, shape.tokens};
  const GradientQueries<T> queries{.q = inputs.q,
                                   .d_o = d_o,
                                   .lse = lse,
                                   .delta = std::as_const(delta).view(),
                                   .positions = tokens,
                                   .dq = out.dq,
                                   .first = true};
  const GradientKeys<T> keys{inputs.k, inputs.v, {0, 1, inputs.k.shape.tokens}, out.dk,
                             out.dv,   {0},      {0, inputs.k.shape.tokens}};
  attend_backward<T>(pattern, terms, std::span(&queries, 1), std::span(&keys, 1), gradients);
}

template <class T>
std::int64_t attention_backward_scratch_bytes(std::int64_t head_dim, bool relative) {
  return static_cast<std::int64_t>(sizeof(Accumulator<T>)) *
         (BackwardScratch<T>::elements(head_dim) + (relative ? detail::relative_elements(head_dim) : 0));
}

template <class A>
std::int64_t attention_r_gradient_bytes(std::int64_t heads, std::int64_t distances, std::int64_t head_dim) {
  return static_cast<std::int64_t>(sizeof(A)) * heads * distances * detail::packed_stride(head_dim);
}
template std::int64_t attention_r_gradient_bytes<float>(std::int64_t, std::int64_t, std::int64_t);
template std::int64_t attention_r_gradient_bytes<double>(std::int64_t, std::int64_t, std::int64_t);

#define LONGSEQ_INSTANTIATE(T)                                                                              \
  template void attention_delta<T>(TensorView<const T>, TensorView<const T>, TensorView<Accumulator<T>>);   \
  template void attend_backward<T>(const Pattern&, const PositionTerms<Accumulator<T>>&,                    \
                                   std::span<const GradientQueries<T>>, std::span<const GradientKeys<T>>,   \
                                   const TermGradients<Accumulator<T>>&, const Poll&);                      \
  template void attention_backward<T>(                                                                      \
      const Pattern&, const PositionTerms<Accumulator<T>>&, const AttentionInputs<T>&, TensorView<const T>, \
      TensorView<const Accumulator<T>>, TensorView<const T>, const InputGradients<Accumulator<T>>&,         \
      const TermGradients<Accumulator<T>>&);                                                                \
  template std::int64_t attention_backward_scratch_bytes<T>(std::int64_t, bool);
LONGSEQ_INSTANTIATE(float)
LONGSEQ_INSTANTIATE(double)
LONGSEQ_INSTANTIATE(BFloat16)
#undef LONGSEQ_INSTANTIATE

}  // namespace longseq
