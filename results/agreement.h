// Errors that all ranks agree on: a rank that threw alone would leave the others waiting in a collective.
#pragma once

#include <mpi.h>

#include <exception>

namespace longseq {

/// Collective. If any rank gives an error, throws on every rank the lowest such rank's error:
/// std::invalid_argument if it was one, std::runtime_error with its text otherwise. Collectives called
/// between the failure and this call must have been left by all ranks.
void agree(MPI_Comm comm, const std::exception_ptr& error);

/// Collective: runs work() on every rank, then agrees on what it threw.
template <class Work>
void on_all_ranks(MPI_Comm comm, const Work& work) {
  std::exception_ptr error;
  try {
    work();
  } catch (...) {
    error = std::current_exception();
  }
  agree(comm, error);
}

/// Collective: runs work() on rank 0, then agrees on what it threw.
template <class Work>
void on_rank_0(MPI_Comm comm, const Work& work) {
  int rank = 0;
  MPI_Comm_rank(comm, &rank);
  on_all_ranks(comm, [&] {
    if (rank == 0) work();
  });
}

}  // namespace longseq
