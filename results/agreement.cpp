#include "results/agreement.h"

#include <stdexcept>
#include <string>

namespace longseq {
namespace {

struct Failure {
  int invalid_argument = 0;
  std::string message;
};

Failure describe(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::invalid_argument& caught) {
    return {1, caught.what()};
  } catch (const std::exception& caught) {
    return {0, caught.what()};
  } catch (...) {
    return {0, "an exception that is no std::exception"};
  }
}

}  // namespace

void agree(MPI_Comm comm, const std::exception_ptr& error) {
  int rank = 0;
  int ranks = 1;
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &ranks);
  int speaker = error ? rank : ranks;
  MPI_Allreduce(MPI_IN_PLACE, &speaker, 1, MPI_INT, MPI_MIN, comm);
  if (speaker == ranks) return;

  Failure failure;
  if (rank == speaker) failure = describe(error);
  int header[2] = {failure.invalid_argument, static_cast<int>(failure.message.size())};
  MPI_Bcast(header, 2, MPI_INT, speaker, comm);
  failure.message.resize(static_cast<std::size_t>(header[1]));
  MPI_Bcast(failure.message.data(), header[1], MPI_CHAR, speaker, comm);
  if (header[0] != 0) throw std::invalid_argument(failure.message);
  throw std::runtime_error(failure.message);
}

}  // namespace longseq
