// How the program ends when something is wrong: one clear line, a non-zero status on every rank, and no rank
// left waiting for another.
#pragma once

#include <functional>

namespace longseq {

/// Runs work() without MPI. An exception becomes one line on stderr and status 2 (bad input) or 1 (anything
/// else); as a rank other than 0, only if rank 0, which may say the same, has not ended the job in a few
/// seconds.
int run_alone(const std::function<int()>& work);

/// Starts MPI, runs work() on every rank, ends MPI. If all ranks throw, rank 0 prints its error's line and
/// all end in order; a rank that throws alone prints its own after a moment, with rank and host, and takes
/// the job down.
int run_with_mpi(const std::function<int()>& work);

}  // namespace longseq
