// A plan's messages, made ready once to be started again and again, and what has been counted of them.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "drivers/execution/datatype.h"
#include "drivers/execution/memory.h"

namespace longseq {

/// What was sent and received in all passes so far: the sizes of the messages started, and what MPI's
/// statuses say of those that came. A collective has no statuses: for an all-gather both are what was asked
/// of MPI.
struct Traffic {
  std::vector<std::int64_t> bytes_to;     // [peer]
  std::vector<std::int64_t> messages_to;  // [peer]
  std::int64_t bytes_received = 0;
};

template <class T>
class Messages {
 public:
  /// Throws std::invalid_argument if a message or the number of steps is beyond what MPI can count.
  Messages(MPI_Comm comm, const Problem& problem, const RankPlan& plan, const PlanMemory<T>& memory);
  /// Ends the job if messages are in flight: MPI would go on writing into memory that is gone.
  ~Messages();
  Messages(const Messages&) = delete;
  Messages& operator=(const Messages&) = delete;

  void start(std::size_t step);
  bool in_flight() const { return !in_flight_.empty(); }
  /// Progresses them; counts them when all have ended.
  void poll();
  /// Returns when all have ended. A peer that does not answer within the watchdog's time (suite/watchdog.h)
  /// ends the job.
  void wait();

  const Traffic& traffic() const { return traffic_; }

 private:
  /// The messages of one step.
  struct Prepared {
    std::vector<Request> requests;
    std::vector<int> receives;                       // which of them
    std::vector<int> peers;                          // of the requests
    std::vector<std::pair<int, std::int64_t>> sent;  // peer, bytes as MPI counts them
  };

  void prepare(const Step& step);
  void prepare(const Transfer& transfer, bool receive, Prepared& prepared);
  void start_gathering();
  void note_received();
  std::string unanswered();

  MPI_Comm comm_;
  const Problem& problem_;
  const RankPlan& plan_;
  const PlanMemory<T>& memory_;
  std::vector<Prepared> steps_;
  Datatype row_;  // of all own keys, in an all-gather
  std::vector<int> gather_counts_;
  std::vector<int> gather_offsets_;
  std::vector<MPI_Request> in_flight_;
  std::vector<MPI_Status> statuses_;
  std::size_t step_ = 0;
  bool gathering_ = false;
  Traffic traffic_;
};

}  // namespace longseq
