// A rank that has stopped answering ends the job, with who waited for whom, instead of hanging it.
#pragma once

#include <mpi.h>

#include <functional>
#include <span>
#include <string>

namespace longseq {

/// Seconds within which the job ends once another rank waits for one that has stopped: $LONGSEQ_WATCHDOG, or
/// 600. 0: never.
double watchdog_seconds() noexcept;
/// Throws std::invalid_argument if $LONGSEQ_WATCHDOG is no such number; until then it is taken for 0.
void expect_watchdog();

/// While it lives, ranks may come late to where all meet: files are written, or a whole pass is computed, as
/// uneven as its layout. The watchdog is ten times as patient there, but not with messages.
class LongWork {
 public:
  LongWork();
  ~LongWork();
  LongWork(const LongWork&) = delete;
  LongWork& operator=(const LongWork&) = delete;
};

/// Of the watchdog's time: where the line can name those who are missing; and where it can only blame rank 0,
/// which comes after it.
inline constexpr double kPatience = 0.5;
inline constexpr double kMorePatience = 0.9;

/// MPI_Waitall; once the patience is at an end, prints one line, "rank 1 (host a) waited 300 s for " and what
/// `for_whom` gives, and ends the job with status 3.
void wait_watched(MPI_Comm comm, std::span<MPI_Request> requests, std::span<MPI_Status> statuses,
                  const std::function<std::string()>& for_whom, double patience = kPatience);

/// All report to rank 0, hear that all have come, and say so: rank 0 knows who is missing, even of those who
/// stopped while they waited for the others. `what`: what a late rank was waited for to do.
void arrive_watched(MPI_Comm comm, const std::string& what);

/// Before a call that blocks until others have done something; until this ends. After the watchdog's time, so
/// many times, a signal ends the job as above. Within another it changes nothing.
class WatchedCall {
 public:
  /// `name`: of the call, as the line has it; it must outlive this.
  explicit WatchedCall(const char* name, double times = 1);
  ~WatchedCall();
  WatchedCall(const WatchedCall&) = delete;
  WatchedCall& operator=(const WatchedCall&) = delete;
};

/// MPI_Barrier and MPI_Allreduce(MPI_DOUBLE, MPI_MAX), so watched, after all have arrived.
void barrier_watched(MPI_Comm comm);
void maximum_watched(MPI_Comm comm, std::span<const double> own, std::span<double> most,
                     const std::string& what = "end a repetition");

}  // namespace longseq
