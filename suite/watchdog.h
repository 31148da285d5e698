// A rank that has stopped answering ends the job, with who waited for whom, instead of hanging it.
#pragma once

#include <mpi.h>

#include <functional>
#include <span>
#include <string>

namespace longseq {

/// Seconds in which the job ends once a rank has stopped: $LONGSEQ_WATCHDOG, or 300. 0: never.
double watchdog_seconds();

/// Of the watchdog's time: of those who know for whom they wait, so that theirs is the line that is printed,
/// and of the others.
inline constexpr double kPatience = 0.5;
inline constexpr double kMorePatience = 0.9;

/// MPI_Waitall; once the patience is at an end, prints one line, "rank 1 (host a) waited 150 s for " and what
/// `for_whom` gives, and ends the job with status 3.
void wait_watched(MPI_Comm comm, std::span<MPI_Request> requests, std::span<MPI_Status> statuses,
                  const std::function<std::string()>& for_whom, double patience = kPatience);

/// Every rank reports to rank 0, which so knows who is missing; `what`: what a late rank was waited for to
/// do.
void arrive_watched(MPI_Comm comm, const std::string& what);

/// Before a call that blocks until others have done something; until this ends. Once the patience is at
/// an end, a signal ends the job as above. Within another it changes nothing.
class WatchedCall {
 public:
  /// `name`: of the call, as the line has it; it must outlive this.
  explicit WatchedCall(const char* name, double patience = 1);
  ~WatchedCall();
  WatchedCall(const WatchedCall&) = delete;
  WatchedCall& operator=(const WatchedCall&) = delete;
};

/// MPI_Barrier and MPI_Allreduce(MPI_DOUBLE, MPI_MAX), so watched. All arrive first; then they blame rank 0.
void barrier_watched(MPI_Comm comm);
void maximum_watched(MPI_Comm comm, std::span<const double> own, std::span<double> most,
                     const std::string& what = "end a repetition");

}  // namespace longseq
