#include "drivers/execution/executor.h"

#include <fmt/format.h>

#include <chrono>
#include <cstdio>

#include "kernels/merge.h"

namespace longseq {
namespace {

using Clock = std::chrono::steady_clock;

/// Adds the time of its scope to a phase.
class Stopwatch {
 public:
  explicit Stopwatch(double& seconds) : seconds_(seconds), start_(Clock::now()) {}
  ~Stopwatch() { seconds_ += std::chrono::duration<double>(Clock::now() - start_).count(); }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  double& seconds_;
  Clock::time_point start_;
};

}  // namespace

template <class T>
Executor<T>::~Executor() {
  if (in_flight_.empty()) return;
  fmt::print(stderr, "longseq: rank {} failed with messages in flight; ending the job\n", plan_.rank);
  MPI_Abort(comm_, 1);
}

template <class T>
void Executor<T>::start(std::size_t step) {
  current_ = &messages_[step];
  gathering_ = plan_.steps[step].allgather_keys;
  in_flight_.clear();
  for (const Request& request : current_->requests) in_flight_.push_back(request.get());
  // One by one: several messages of a step may go to one peer with one tag, and MPI_Startall promises no
  // order.
  for (MPI_Request& request : in_flight_) MPI_Start(&request);
  for (const auto& [peer, bytes] : current_->sent) {
    traffic_.bytes_to[static_cast<std::size_t>(peer)] += bytes;
    traffic_.messages_to[static_cast<std::size_t>(peer)] += 1;
  }
  if (gathering_) {
    const std::int64_t rows = tokens_in(plan_.buffers[kOwnKeys].positions);
    MPI_Request request = MPI_REQUEST_NULL;
    MPI_Iallgatherv(memory_of(kOwnKeys), static_cast<int>(rows), row_.get(), arena_.data(),
                    gather_counts_.data(), gather_offsets_.data(), row_.get(), comm_, &request);
    in_flight_.push_back(request);
    for (int peer = 0; peer < problem_.layout.ranks && rows > 0; ++peer) {
      if (peer == plan_.rank) continue;
      traffic_.bytes_to[static_cast<std::size_t>(peer)] += rows * payload_bytes(row_.get());
      traffic_.messages_to[static_cast<std::size_t>(peer)] += 1;
    }
  }
  statuses_.resize(in_flight_.size());
}

template <class T>
void Executor<T>::poll() {
  if (in_flight_.empty()) return;
  Stopwatch watch(polling_);
  int done = 0;
  MPI_Testall(static_cast<int>(in_flight_.size()), in_flight_.data(), &done, statuses_.data());
  if (done != 0) note_received();
}

template <class T>
void Executor<T>::wait() {
  if (in_flight_.empty()) return;
  MPI_Waitall(static_cast<int>(in_flight_.size()), in_flight_.data(), statuses_.data());
  note_received();
}

template <class T>
void Executor<T>::note_received() {
  for (const int receive : current_->receives) {
    MPI_Count bytes = 0;
    MPI_Get_elements_x(&statuses_[static_cast<std::size_t>(receive)], MPI_BYTE, &bytes);
    traffic_.bytes_received += bytes;
  }
  if (gathering_) {
    for (std::size_t rank = 0; rank < gather_counts_.size(); ++rank) {
      if (static_cast<int>(rank) != plan_.rank)
        traffic_.bytes_received += gather_counts_[rank] * payload_bytes(row_.get());
    }
  }
  in_flight_.clear();
}

template <class T>
void Executor<T>::finish_answers_of(const Step& step) {
  const auto finish = [&](int buffer) {
    Answer* answer = answers_[static_cast<std::size_t>(buffer)].get();
    if (answer == nullptr || answer->finished) return;
    const AttentionState<T> state{partial_outputs(buffer), answer->maximum.view(), answer->sum.view()};
    finish_attention<T>(state, state.o, partial_lse(buffer));
    answer->finished = true;
  };
  for (const Transfer& send : step.sends) finish(send.buffer);
  for (const Merge& merge : step.merges) finish(merge.into);
}

template <class T>
void Executor<T>::begin() {
  begin_attention(AttentionState<T>{tensors_.o, maximum_.view(), sum_.view()});
  for (std::size_t buffer = 0; buffer < answers_.size(); ++buffer) {
    Answer* answer = answers_[buffer].get();
    if (answer == nullptr) continue;
    answer->finished = false;
    begin_attention(AttentionState<T>{partial_outputs(static_cast<int>(buffer)), answer->maximum.view(),
                                      answer->sum.view()});
  }
}

template <class T>
void Executor<T>::run_step(std::size_t number, bool overlap, PassTimes& times) {
  const Step& step = plan_.steps[number];
  {
    Stopwatch watch(times.merging);
    finish_answers_of(step);
  }
  {
    Stopwatch watch(times.communication);
    start(number);
  }
  if (!overlap) {
    Stopwatch watch(times.waiting);
    wait();
  }
  {
    Stopwatch watch(times.compute);
    for (const Wave& wave : waves_[number])
      attend<T>(problem_.pattern, {bias_}, wave.blocks, [this] { poll(); });
  }
  if (overlap) {
    Stopwatch watch(times.waiting);
    wait();
  }
  Stopwatch watch(times.merging);
  for (const Merge& merge : step.merges) {
    merge_attention<T>(partial_outputs(merge.into), partial_lse(merge.into), partial_outputs(merge.from),
                       partial_lse(merge.from));
  }
}

template <class T>
void Executor<T>::finish() {
  finish_attention<T>(AttentionState<T>{tensors_.o, maximum_.view(), sum_.view()}, tensors_.o, tensors_.lse);
  for (const Delivery& delivery : plan_.deliveries) {
    std::int64_t first = 0;
    for (const Interval& rows : delivery.rows) {
      const Interval part{first, first + rows.size()};
      merge_attention<T>(tensors_.o.tokens(rows), tensors_.lse.tokens(rows),
                         partial_outputs(delivery.from).tokens(part),
                         partial_lse(delivery.from).tokens(part));
      first += rows.size();
    }
  }
}

template <class T>
PassTimes Executor<T>::forward(bool overlap) {
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

}  // namespace longseq
