// Strings of all ranks, on all ranks.
#pragma once

#include <mpi.h>

#include <string>
#include <vector>

namespace longseq {

/// Collective: element r is what rank r gave.
std::vector<std::string> all_gather(MPI_Comm comm, const std::string& mine);

/// The communicator of this rank's node, ranks in the order of `world`; freed at the end of its life.
class NodeComm {
 public:
  explicit NodeComm(MPI_Comm world) {
    MPI_Comm_split_type(world, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &comm_);
  }
  ~NodeComm() { MPI_Comm_free(&comm_); }
  NodeComm(const NodeComm&) = delete;
  NodeComm& operator=(const NodeComm&) = delete;
  MPI_Comm get() const { return comm_; }

 private:
  MPI_Comm comm_ = MPI_COMM_NULL;
};

}  // namespace longseq
