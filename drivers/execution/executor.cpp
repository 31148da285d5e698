#include "drivers/execution/executor.h"

#include <algorithm>
#include <map>
#include <utility>

#include "drivers/execution/row_operations.h"
#include "drivers/sharding/area.h"
#include "kernels/merge.h"
#include "kernels/parallel_rows.h"
#include "suite/measure.h"

namespace longseq {
namespace {

/// Adds the time of its scope to a phase.
class Stopwatch {
 public:
  explicit Stopwatch(double& seconds) : seconds_(seconds), start_(steady_seconds()) {}
  ~Stopwatch() { seconds_ += steady_seconds() - start_; }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  double& seconds_;
  double start_;
};

template <class A>
void set_to_zero(const TermGradients<A>& gradients, const PositionTerms<A>& terms, std::int64_t heads) {
  if (gradients.bias != nullptr) std::fill_n(gradients.bias, heads * terms.bias.row_size(), A{0});
  if (gradients.r.data == nullptr) return;
  set_to_zero(gradients.r);
  for (A* const biases : {gradients.content_bias, gradients.position_bias})
    std::fill_n(biases, heads * gradients.r.shape.head_dim, A{0});
}

}  // namespace

template <class T>
Executor<T>::Executor(MPI_Comm comm, const Problem& problem, RankPlan plan, const PositionTerms<A>& terms,
                      const ShardTensors<T>& tensors)
    : problem_(problem),
      plan_(std::move(plan)),
      terms_(terms),
      tensors_(tensors),
      memory_(problem_, plan_, tensors),
      messages_(comm, problem_, plan_, memory_),
      answers_(problem_, plan_, memory_),
      starts_(gradient_starts(problem_, plan_)) {
  std::span<const GradientStarts::OfTile> starts = starts_.tiles;
  for (const Step& step : plan_.steps) prepare(step, starts);
  give_results_early();
  moments_.resize(plan_.steps.size());
}

template <class T>
void Executor<T>::prepare(const Step& step, std::span<const GradientStarts::OfTile>& starts) {
  Work work;
  const std::span<const Tile> tiles = plan_.tiles_of(step);
  if (backward()) {
    work.backward = backward_waves<T>(problem_, memory_, tiles, starts.first(tiles.size()));
    starts = starts.subspan(tiles.size());
  } else {
    work.forward = forward_waves<T>(problem_, memory_, tiles,
                                    [this](const Tile& tile) { return answers_.state_of(tile); });
  }
  work_.push_back(std::move(work));
}

template <class T>
void Executor<T>::give_results_early() {
  std::map<int, Areas> later;
  const ResultOf<T> result_of = [this](int buffer, Interval heads) {
    return answers_.result_of(buffer, heads);
  };
  for (auto work = work_.rbegin(); work != work_.rend(); ++work) {
    for (auto wave = work->forward.rbegin(); wave != work->forward.rend(); ++wave) {
      for (const auto& [buffer, rows] : give_results<T>(*wave, later, result_of))
        answers_.given(buffer, rows);
    }
  }
}

template <class T>
void Executor<T>::begin() {
  if (!backward()) {
    answers_.begin();
    return;
  }
  const Interval heads{0, problem_.heads};
  const TensorView<A> lse = memory_.column(kOwnStatistics, heads, 0);
  copy_rows<A>(tensors_.lse, lse);
  attention_delta<T>(tensors_.o, tensors_.d_o, memory_.column(kOwnStatistics, heads, 1));
  set_to_zero(tensors_.d_terms, terms_, problem_.heads);
}

template <class T>
void Executor<T>::poll() {
  if (!messages_.in_flight()) return;
  Stopwatch watch(polling_);
  messages_.poll();
}

template <class T>
void Executor<T>::compute(const Work& work) {
  const Poll poll_messages = [this] { poll(); };
  for (const ForwardWave<T>& wave : work.forward)
    attend<T>(problem_.pattern, terms_.of_heads(wave.heads), wave.blocks, poll_messages);
  for (const BackwardWave<T>& wave : work.backward) {
    attend_backward<T>(problem_.pattern, terms_.of_heads(wave.heads), wave.queries, wave.keys,
                       tensors_.d_terms.of_heads(wave.heads, terms_), poll_messages);
  }
}

template <class T>
void Executor<T>::merge(const Merge& merge) {
  const Buffer& from = buffer_of(plan_, merge.from);
  if (from.payload == Payload::partials) {
    const auto lse = [&](int buffer) { return memory_.column(buffer, from.heads, problem_.head_dim); };
    merge_attention<A>(memory_.partial_outputs(merge.into), lse(merge.into),
                       memory_.partial_outputs(merge.from), lse(merge.from));
    return;
  }
  const TensorView<A> into = memory_.template view<A>(merge.into, from.heads);
  const TensorView<A> part = memory_.template view<A>(merge.from);
  std::int64_t first = 0;
  for (const Interval& rows : plan_.rows_of(merge)) {
    add_to(into.tokens(rows), part.tokens({first, first + rows.size()}));
    first += rows.size();
  }
}

template <class T>
void Executor<T>::zero_before(std::size_t step) {
  for (const auto& zero : std::ranges::equal_range(starts_.zeros, step, {}, &GradientStarts::Zero::step))
    set_to_zero(memory_.template view<A>(zero.buffer, zero.area.heads).tokens(zero.area.rows));
}

template <class T>
void Executor<T>::run_step(std::size_t number, bool overlap, PassTimes& times) {
  const Step& step = plan_.steps[number];
  const Work& work = work_[number];
  StepMoments& moments = moments_[number];
  moments.begin = steady_seconds();
  {
    Stopwatch watch(times.merging);
    for (const Transfer& send : plan_.sends_of(step)) answers_.finish(send.buffer);
    for (const Merge& merge : plan_.merges_of(step)) answers_.finish(merge.into);
    zero_before(number);
  }
  {
    Stopwatch watch(times.communication);
    messages_.start(number);
  }
  moments.posted = steady_seconds();
  const auto wait = [&] {
    Stopwatch watch(times.waiting);
    messages_.wait();
    moments.waited = steady_seconds();
  };
  if (!overlap) wait();
  {
    Stopwatch watch(times.compute);
    compute(work);
  }
  moments.computed = steady_seconds();
  if (overlap) wait();
  {
    Stopwatch watch(times.merging);
    for (const Merge& own : plan_.merges_of(step)) merge(own);
  }
  moments.joined = steady_seconds();
}

template <class T>
void Executor<T>::finish() {
  zero_before(plan_.steps.size());
  answers_.finish(kOwnOutputs);
  for (const Delivery& delivery : plan_.deliveries) {
    const Interval heads = buffer_of(plan_, delivery.from).heads;
    const TensorView<A> outputs = memory_.partial_outputs(delivery.from);
    const TensorView<A> lse = memory_.column(delivery.from, heads, problem_.head_dim);
    std::int64_t first = 0;
    for (const Interval& rows : plan_.rows_of(delivery)) {
      const Interval part{first, first + rows.size()};
      copy_rows<T>(outputs.tokens(part), tensors_.o.tokens(rows));
      copy_rows<A>(lse.tokens(part), tensors_.lse.tokens(rows));
      first += rows.size();
    }
  }
}

template <class T>
PassTimes Executor<T>::run(bool overlap) {
  PassTimes times;
  polling_ = 0;
  {
    Stopwatch watch(times.merging);
    begin();
  }
  for (std::size_t number = 0; number < plan_.steps.size(); ++number) run_step(number, overlap, times);
  times.compute -= polling_;
  times.communication += polling_;
  Stopwatch watch(times.merging);
  finish();
  return times;
}

template class Executor<float>;
template class Executor<double>;
template class Executor<BFloat16>;

}  // namespace longseq
