#include "drivers/execution/answers.h"

#include <type_traits>
#include <utility>

namespace longseq {

template <class T>
Answers<T>::Answers(const Problem& problem, const RankPlan& plan, const PlanMemory<T>& memory)
    : problem_(problem), plan_(plan), memory_(memory) {
  if (problem.pass != Pass::forward) return;
  add(kOwnOutputs, kOwnLse, plan.own_heads);
  for (const Tile& tile : plan.tiles) {
    if (answers_.find(tile.into) == answers_.end())
      add(tile.into, partial(tile.into) ? -1 : tile.lse, buffer_of(plan, tile.into).heads);
  }
}

template <class T>
void Answers<T>::add(int buffer, int lse, Interval heads) {
  const std::int64_t rows = buffer_of(plan_, buffer).rows;
  const Shape shape{problem_.batch, heads.size(), rows, 1};
  Answer& answer = answers_[buffer];
  answer.heads = heads;
  answer.lse = lse;
  answer.maximum = Tensor<A>(shape);
  answer.sum = Tensor<A>(shape);
  answer.left = {{{0, rows}, heads}};
  if (!std::is_same_v<T, A> && !partial(buffer))
    answer.wide_outputs = Tensor<A>({shape.batch, shape.heads, rows, problem_.head_dim});
}

template <class T>
AttentionState<Accumulator<T>> Answers<T>::state(int buffer, Answer& answer) {
  TensorView<A> outputs;
  if (partial(buffer)) {
    outputs = memory_.partial_outputs(buffer);
  } else if constexpr (std::is_same_v<T, A>) {
    outputs = memory_.template view<A>(buffer, answer.heads);
  } else {
    outputs = answer.wide_outputs.view();
  }
  return {outputs, answer.maximum.view(), answer.sum.view()};
}

template <class T>
AttentionState<Accumulator<T>> Answers<T>::state_of(const Tile& tile) {
  Answer& answer = answers_.at(tile.into);
  const AttentionState<A> part = state(tile.into, answer);
  const Interval own = heads_within(answer, tile.heads);
  return {part.o.heads(own), part.maximum.heads(own), part.sum.heads(own)};
}

template <class T>
void Answers<T>::begin() {
  for (auto& [buffer, answer] : answers_) {
    answer.finished = false;
    begin_attention(state(buffer, answer));
  }
}

template <class T>
AttentionResult<T> Answers<T>::result_of(int buffer, Interval heads) const {
  if (partial(buffer)) return {};
  return {memory_.template view<T>(buffer, heads), memory_.template view<A>(answers_.at(buffer).lse, heads)};
}

template <class T>
void Answers<T>::given(int buffer, const Area& rows) {
  Areas left;
  for (const Area& area : answers_.at(buffer).left) {
    for (const Area& part : beyond(area, {rows})) left.push_back(part);
  }
  answers_.at(buffer).left = std::move(left);
}

template <class T>
void Answers<T>::finish(int buffer) {
  const auto found = answers_.find(buffer);
  if (found == answers_.end() || found->second.finished) return;
  Answer& answer = found->second;
  const AttentionState<A> made = state(buffer, answer);
  if (partial(buffer)) {
    finish_attention<A>(made, made.o, memory_.column(buffer, answer.heads, problem_.head_dim));
  } else {
    const AttentionResult<T> result = result_of(buffer, answer.heads);
    for (const Area& area : answer.left) {
      const Interval own = heads_within(answer, area.heads);
      const auto part = [&](const auto& view) { return view.tokens(area.rows).heads(own); };
      finish_attention<T>({part(made.o), part(made.maximum), part(made.sum)}, part(result.o),
                          part(result.lse));
    }
  }
  answer.finished = true;
}

template class Answers<float>;
template class Answers<double>;
template class Answers<BFloat16>;

}  // namespace longseq
