// A rank that has stopped answering ends the job, with who waited for whom, instead of hanging it.
#pragma once

#include <mpi.h>

#include <functional>
#include <span>
#include <string>

namespace longseq {

/// Seconds that a rank waits for others at most: $LONGSEQ_WATCHDOG, or 300. 0 waits forever.
double watchdog_seconds();

/// MPI_Waitall; after the watchdog's time, or `patience` times that, prints one line, "rank 1 (host a) waited
/// 300 s for " and what `for_whom` gives, and ends the job with status 3.
void wait_watched(MPI_Comm comm, std::span<MPI_Request> requests, std::span<MPI_Status> statuses,
                  const std::function<std::string()>& for_whom, double patience = 1);

/// MPI_Barrier and MPI_Allreduce(MPI_DOUBLE, MPI_MAX), so watched; `what`: what a late rank was waited for to
/// do. All report to rank 0 first, which so knows who is missing; the others are more patient, and blame rank
/// 0.
void barrier_watched(MPI_Comm comm);
void maximum_watched(MPI_Comm comm, std::span<const double> own, std::span<double> most,
                     const char* what = "end a repetition");

}  // namespace longseq
