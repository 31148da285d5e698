// Runs any plan: the only place that moves bytes. Messages are non-blocking and travel while tiles are
// computed; the thread that called polls MPI between tiles, so that no core is given away to a progress
// thread.
#pragma once

#include <mpi.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "drivers/execution/datatype.h"
#include "drivers/sharding/plan.h"
#include "kernels/attention.h"

namespace longseq {

/// This rank's tensors, dense. They must outlive the executor, which binds its messages to them once.
template <class T>
struct ShardTensors {
  TensorView<const T> q;     // (batch, heads, rows, head_dim)
  TensorView<const T> keys;  // (2·batch, kv_heads, rows, head_dim): all of K, then all of V
  TensorView<T> o;           // (batch, heads, rows, head_dim)
  TensorView<T> lse;         // (batch, heads, rows, 1)
};

/// Where one pass spent its time on this rank, seconds.
struct PassTimes {
  double compute = 0;        // tiles
  double communication = 0;  // starting messages, and progressing them between tiles
  double waiting = 0;        // for messages, nothing else to do
  double merging = 0;        // finishing and joining partial results
};

/// What was sent and received in all passes so far: the sizes of the messages started, and what MPI's
/// statuses say of those that came. A collective has no statuses: for an all-gather both are what was asked
/// of MPI.
struct Traffic {
  std::vector<std::int64_t> bytes_to;     // [peer]
  std::vector<std::int64_t> messages_to;  // [peer]
  std::int64_t bytes_received = 0;
};

template <class T>
class Executor {
 public:
  /// Throws std::invalid_argument if a message or the number of steps is beyond what MPI can count.
  Executor(MPI_Comm comm, const Problem& problem, RankPlan plan, const DistanceBias<T>& bias,
           const ShardTensors<T>& tensors);
  /// Ends the job if messages are in flight: MPI would go on writing into memory that is gone.
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  /// The forward pass: fills o and lse. With `overlap` off all messages of a step end before its tiles are
  /// computed: the control. Collective. Runs in the caller's TBB arena.
  PassTimes forward(bool overlap);

  const Traffic& traffic() const { return traffic_; }

 private:
  /// The messages of one step, ready to be started again and again.
  struct Messages {
    std::vector<Request> requests;
    std::vector<int> receives;                       // which of them
    std::vector<std::pair<int, std::int64_t>> sent;  // peer, bytes as MPI counts them
  };
  /// Query blocks that may be computed at once: none shares rows with another.
  struct Wave {
    struct Place {
      int into;
      Interval rows;
    };
    std::vector<QueryBlock<T>> blocks;
    std::vector<Place> places;  // of the blocks
  };

  T* memory_of(int buffer);
  TensorView<T> partial_outputs(int buffer);
  TensorView<T> partial_lse(int buffer);
  AttentionState<T> state_of(const Tile& tile);
  void prepare_messages(const Step& step);
  void prepare_waves(const Step& step);
  KeyBlock<T> key_block(const Tile& tile);
  QueryBlock<T> query_block(const Tile& tile);
  void find_answers();
  void begin();
  void run_step(std::size_t number, bool overlap, PassTimes& times);
  void finish();
  void start(std::size_t step);
  void poll();
  void wait();
  void note_received();
  void finish_answers_of(const Step& step);

  struct Answer {
    Tensor<T> maximum;
    Tensor<T> sum;
    bool finished = false;
  };

  MPI_Comm comm_;
  Problem problem_;
  RankPlan plan_;
  DistanceBias<T> bias_;
  ShardTensors<T> tensors_;
  Tensor<T> maximum_;
  Tensor<T> sum_;
  Tensor<std::byte> arena_;
  std::vector<std::unique_ptr<Answer>> answers_;  // [buffer], null where it is no partial result made here
  std::vector<Messages> messages_;                // [step]
  std::vector<std::vector<Wave>> waves_;          // [step]
  Datatype row_;
  std::vector<int> gather_counts_;
  std::vector<int> gather_offsets_;
  std::vector<MPI_Request> in_flight_;
  std::vector<MPI_Status> statuses_;
  const Messages* current_ = nullptr;
  bool gathering_ = false;
  double polling_ = 0;  // s, of the pass
  Traffic traffic_;
};

}  // namespace longseq
