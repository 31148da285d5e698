// What an executor does once, before the first pass: the messages of each step made ready to be started again
// and again, the tiles sorted into waves that may be computed at once.
#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "drivers/execution/executor.h"

namespace longseq {
namespace {

constexpr int kPayloads = 3;

int tag_of(std::size_t step, Payload payload) {
  return static_cast<int>(step) * kPayloads + static_cast<int>(payload);
}

/// MPI promises tags up to 32767 only; most allow far more.
void expect_tags(MPI_Comm comm, std::size_t steps) {
  int* largest = nullptr;
  int found = 0;
  MPI_Comm_get_attr(comm, MPI_TAG_UB, &largest, &found);
  if (found != 0 && tag_of(steps, Payload::partials) > *largest) {
    throw std::invalid_argument(
        fmt::format("the plan has {} steps; expected at most {}: this MPI has no more tags; hint: fewer "
                    "ranks or another strategy",
                    steps, *largest / kPayloads));
  }
}

}  // namespace

template <class T>
Executor<T>::Executor(MPI_Comm comm, const Problem& problem, RankPlan plan, const DistanceBias<T>& bias,
                      const ShardTensors<T>& tensors)
    : comm_(comm),
      problem_(problem),
      plan_(std::move(plan)),
      bias_(bias),
      tensors_(tensors),
      maximum_(tensors.lse.shape),
      sum_(tensors.lse.shape),
      arena_({1, 1, 1, plan_.arena_bytes}) {
  traffic_.bytes_to.assign(static_cast<std::size_t>(problem.layout.ranks), 0);
  traffic_.messages_to = traffic_.bytes_to;
  find_answers();
  expect_tags(comm, plan_.steps.size());
  for (const Step& step : plan_.steps) {
    prepare_messages(step);
    prepare_waves(step);
  }
}

template <class T>
T* Executor<T>::memory_of(int buffer) {
  // MPI's and the kernels' signatures differ in const; own tensors are only ever read.
  if (buffer == kOwnKeys) return const_cast<T*>(tensors_.keys.data);
  if (buffer == kOwnQueries) return const_cast<T*>(tensors_.q.data);
  return reinterpret_cast<T*>(arena_.data() + plan_.buffers[static_cast<std::size_t>(buffer)].offset);
}

template <class T>
TensorView<T> Executor<T>::partial_outputs(int buffer) {
  const std::int64_t rows = tokens_in(plan_.buffers[static_cast<std::size_t>(buffer)].positions);
  TensorView<T> view =
      dense_view(memory_of(buffer), {problem_.batch, problem_.heads, rows, problem_.head_dim + 1});
  view.shape.head_dim = problem_.head_dim;
  return view;
}

template <class T>
TensorView<T> Executor<T>::partial_lse(int buffer) {
  TensorView<T> view = partial_outputs(buffer);
  view.data += problem_.head_dim;
  view.shape.head_dim = 1;
  return view;
}

template <class T>
void Executor<T>::find_answers() {
  answers_.resize(plan_.buffers.size());
  for (const Step& step : plan_.steps) {
    for (const Tile& tile : step.tiles) {
      if (tile.into < 0 || answers_[static_cast<std::size_t>(tile.into)]) continue;
      const std::int64_t rows = tokens_in(plan_.buffers[static_cast<std::size_t>(tile.into)].positions);
      const Shape shape{problem_.batch, problem_.heads, rows, 1};
      answers_[static_cast<std::size_t>(tile.into)] =
          std::make_unique<Answer>(Answer{Tensor<T>(shape), Tensor<T>(shape)});
    }
  }
}

template <class T>
AttentionState<T> Executor<T>::state_of(const Tile& tile) {
  if (tile.into < 0) return {tensors_.o, maximum_.view(), sum_.view()};
  Answer& answer = *answers_[static_cast<std::size_t>(tile.into)];
  return {partial_outputs(tile.into), answer.maximum.view(), answer.sum.view()};
}

template <class T>
void Executor<T>::prepare_messages(const Step& step) {
  Messages messages;
  const std::size_t number = messages_.size();
  const auto prepare = [&](const Transfer& transfer, bool receive) {
    const Buffer& buffer = plan_.buffers[static_cast<std::size_t>(transfer.buffer)];
    const std::int64_t row_bytes = width(problem_, buffer.payload) * static_cast<std::int64_t>(sizeof(T));
    const Datatype type = rows_of_planes(transfer.rows, planes(problem_, buffer.payload),
                                         tokens_in(buffer.positions), row_bytes);
    MPI_Request request = MPI_REQUEST_NULL;
    if (receive) {
      messages.receives.push_back(static_cast<int>(messages.requests.size()));
      MPI_Recv_init(memory_of(transfer.buffer), 1, type.get(), transfer.peer, tag_of(number, buffer.payload),
                    comm_, &request);
    } else {
      MPI_Send_init(memory_of(transfer.buffer), 1, type.get(), transfer.peer, tag_of(number, buffer.payload),
                    comm_, &request);
      messages.sent.emplace_back(transfer.peer, payload_bytes(type.get()));
    }
    messages.requests.emplace_back(request);
  };
  for (const Transfer& transfer : step.receives) prepare(transfer, true);
  for (const Transfer& transfer : step.sends) prepare(transfer, false);
  if (step.allgather_keys) {
    row_ = contiguous(bytes_per_row(problem_, Payload::keys), MPI_BYTE);
    std::int64_t offset = 0;
    for (int rank = 0; rank < problem_.layout.ranks; ++rank) {
      const std::int64_t rows = tokens_in(problem_.layout.shard(rank));
      gather_counts_.push_back(static_cast<int>(rows));
      gather_offsets_.push_back(static_cast<int>(offset));
      offset += rows;
    }
  }
  messages_.push_back(std::move(messages));
}

template <class T>
KeyBlock<T> Executor<T>::key_block(const Tile& tile) {
  const Buffer& keys = plan_.buffers[static_cast<std::size_t>(tile.keys)];
  const TensorView<const T> both = dense_view<const T>(
      memory_of(tile.keys),
      {2 * problem_.batch, problem_.kv_heads, tokens_in(keys.positions), problem_.head_dim});
  TensorView<const T> k = both.tokens(tile.key_rows);
  k.shape.batch = problem_.batch;
  TensorView<const T> v = k;
  v.data += problem_.batch * both.batch_stride;
  return {k, v, positions_of(keys, tile.key_rows)};
}

template <class T>
QueryBlock<T> Executor<T>::query_block(const Tile& tile) {
  const Buffer& queries = plan_.buffers[static_cast<std::size_t>(tile.queries)];
  const TensorView<const T> q =
      dense_view<const T>(memory_of(tile.queries),
                          {problem_.batch, problem_.heads, tokens_in(queries.positions), problem_.head_dim});
  return {q.tokens(tile.query_rows),
          positions_of(queries, tile.query_rows),
          state_of(tile).tokens(tile.query_rows),
          {}};
}

template <class T>
void Executor<T>::prepare_waves(const Step& step) {
  std::vector<Wave> waves;
  for (const Tile& tile : step.tiles) {
    for (std::size_t number = 0;; ++number) {
      if (number == waves.size()) waves.emplace_back();
      Wave& wave = waves[number];
      const auto meets = [&](const typename Wave::Place& place) {
        return place.into == tile.into && !intersect(place.rows, tile.query_rows).empty();
      };
      const auto found = std::find_if(wave.places.begin(), wave.places.end(), meets);
      if (found == wave.places.end()) {
        wave.blocks.push_back(query_block(tile));
        wave.blocks.back().keys.push_back(key_block(tile));
        wave.places.push_back({tile.into, tile.query_rows});
        break;
      }
      if (found->rows == tile.query_rows) {
        wave.blocks[static_cast<std::size_t>(found - wave.places.begin())].keys.push_back(key_block(tile));
        break;
      }
    }
  }
  waves_.push_back(std::move(waves));
}

// The members above; the class itself is instantiated in executor.cpp.
#define LONGSEQ_INSTANTIATE(T)                                                               \
  template Executor<T>::Executor(MPI_Comm, const Problem&, RankPlan, const DistanceBias<T>&, \
                                 const ShardTensors<T>&);                                    \
  template T* Executor<T>::memory_of(int);                                                   \
  template TensorView<T> Executor<T>::partial_outputs(int);                                  \
  template TensorView<T> Executor<T>::partial_lse(int);
LONGSEQ_INSTANTIATE(float)
LONGSEQ_INSTANTIATE(double)
#undef LONGSEQ_INSTANTIATE

}  // namespace longseq
