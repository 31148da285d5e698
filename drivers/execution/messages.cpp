#include "drivers/execution/messages.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstddef>
#include <cstdio>
#include <set>
#include <stdexcept>
#include <string>

#include "suite/watchdog.h"

namespace longseq {
namespace {

constexpr int kPayloads = 9;

int tag_of(std::size_t step, Payload payload) {
  return static_cast<int>(step) * kPayloads + static_cast<int>(payload);
}

/// MPI promises tags up to 32767 only; most allow far more.
void expect_tags(MPI_Comm comm, std::size_t steps) {
  int* largest = nullptr;
  int found = 0;
  MPI_Comm_get_attr(comm, MPI_TAG_UB, &largest, &found);
  if (found != 0 && tag_of(steps, Payload::key_gradients) > *largest) {
    throw std::invalid_argument(
        fmt::format("the plan has {} steps; expected at most {}: this MPI has no more tags; hint: fewer "
                    "ranks or another strategy",
                    steps, *largest / kPayloads));
  }
}

}  // namespace

template <class T>
Messages<T>::Messages(MPI_Comm comm, const Problem& problem, const RankPlan& plan,
                      const PlanMemory<T>& memory)
    : comm_(comm), problem_(problem), plan_(plan), memory_(memory) {
  traffic_.bytes_to.assign(static_cast<std::size_t>(problem.layout.ranks), 0);
  traffic_.messages_to = traffic_.bytes_to;
  expect_tags(comm, plan.steps.size());
  for (const Step& step : plan.steps) prepare(step);
}

template <class T>
Messages<T>::~Messages() {
  if (in_flight_.empty()) return;
  fmt::print(stderr, "longseq: rank {} failed with messages in flight; ending the job\n", plan_.rank);
  MPI_Abort(comm_, 1);
}

template <class T>
void Messages<T>::prepare(const Transfer& transfer, bool receive, Prepared& prepared) {
  const Buffer& buffer = buffer_of(plan_, transfer.buffer);
  const std::int64_t messages = messages_of(problem_, plan_, transfer);
  const PlaneSelection selection{.entries = planes(problem_, buffer.payload, {0, 1}) / messages,
                                 .planes = buffer.heads.size(),
                                 .chosen = transfer.heads.shifted(-buffer.heads.begin),
                                 .rows = buffer.rows,
                                 .row_bytes = row_bytes(problem_, buffer.payload)};
  const Datatype type = rows_of_planes(plan_.rows_of(transfer), selection);
  const int tag = tag_of(steps_.size(), buffer.payload);
  auto* at = static_cast<std::byte*>(memory_.at(transfer.buffer));
  for (std::int64_t message = 0; message < messages; ++message) {
    MPI_Request request = MPI_REQUEST_NULL;
    if (receive) {
      prepared.receives.push_back(static_cast<int>(prepared.requests.size()));
      MPI_Recv_init(at, 1, type.get(), transfer.peer, tag, comm_, &request);
    } else {
      MPI_Send_init(at, 1, type.get(), transfer.peer, tag, comm_, &request);
      prepared.sent.emplace_back(transfer.peer, payload_bytes(type.get()));
    }
    prepared.requests.emplace_back(request);
    prepared.peers.push_back(transfer.peer);
    at += selection.entries * selection.planes * selection.rows * selection.row_bytes;
  }
}

template <class T>
void Messages<T>::prepare(const Step& step) {
  Prepared prepared;
  for (const Transfer& transfer : plan_.receives_of(step)) prepare(transfer, true, prepared);
  for (const Transfer& transfer : plan_.sends_of(step)) prepare(transfer, false, prepared);
  if (step.allgather_keys) {
    row_ = contiguous(bytes_per_row(problem_, Payload::keys, all_heads(problem_, Payload::keys)), MPI_BYTE);
    std::int64_t offset = 0;
    for (int rank = 0; rank < problem_.layout.ranks; ++rank) {
      const std::int64_t rows = tokens_in(problem_.layout.shard(rank));
      gather_counts_.push_back(static_cast<int>(rows));
      gather_offsets_.push_back(static_cast<int>(offset));
      offset += rows;
    }
  }
  steps_.push_back(std::move(prepared));
}

template <class T>
void Messages<T>::start(std::size_t step) {
  step_ = step;
  gathering_ = plan_.steps[step].allgather_keys;
  in_flight_.clear();
  for (const Request& request : steps_[step].requests) in_flight_.push_back(request.get());
  // One by one: several messages of a step may go to one peer with one tag, and MPI_Startall promises no
  // order.
  for (MPI_Request& request : in_flight_) MPI_Start(&request);
  for (const auto& [peer, bytes] : steps_[step].sent) {
    traffic_.bytes_to[static_cast<std::size_t>(peer)] += bytes;
    traffic_.messages_to[static_cast<std::size_t>(peer)] += 1;
  }
  if (gathering_) start_gathering();
  statuses_.resize(in_flight_.size());
}

template <class T>
void Messages<T>::start_gathering() {
  const std::int64_t rows = buffer_of(plan_, kOwnKeys).rows;
  MPI_Request request = MPI_REQUEST_NULL;
  MPI_Iallgatherv(memory_.at(kOwnKeys), static_cast<int>(rows), row_.get(), memory_.arena(),
                  gather_counts_.data(), gather_offsets_.data(), row_.get(), comm_, &request);
  in_flight_.push_back(request);
  for (int peer = 0; peer < problem_.layout.ranks && rows > 0; ++peer) {
    if (peer == plan_.rank) continue;
    traffic_.bytes_to[static_cast<std::size_t>(peer)] += rows * payload_bytes(row_.get());
    traffic_.messages_to[static_cast<std::size_t>(peer)] += 1;
  }
}

template <class T>
void Messages<T>::poll() {
  if (in_flight_.empty()) return;
  int done = 0;
  MPI_Testall(static_cast<int>(in_flight_.size()), in_flight_.data(), &done, statuses_.data());
  if (done != 0) note_received();
}

template <class T>
void Messages<T>::wait() {
  if (in_flight_.empty()) return;
  wait_watched(comm_, in_flight_, statuses_, [this] { return unanswered(); });
  note_received();
}

template <class T>
std::string Messages<T>::unanswered() {
  std::set<int> peers;
  for (std::size_t i = 0; i < steps_[step_].peers.size(); ++i) {
    int done = 0;
    MPI_Request_get_status(in_flight_[i], &done, MPI_STATUS_IGNORE);
    if (done == 0) peers.insert(steps_[step_].peers[i]);
  }
  const std::string whom = gathering_ ? "all ranks" : fmt::format("rank {}", fmt::join(peers, ", "));
  return fmt::format("{} in step {} of {}", whom, step_ + 1, plan_.steps.size());
}

template <class T>
void Messages<T>::note_received() {
  for (const int receive : steps_[step_].receives) {
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

template class Messages<float>;
template class Messages<double>;
template class Messages<BFloat16>;

}  // namespace longseq
