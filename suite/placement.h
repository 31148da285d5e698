// Where this launch's ranks sit: nodes, cores, who shares them. From it: how many threads, pinned or not.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/threads/topology.h"

namespace longseq {

/// What one rank knows of its own cores, of its node and of the ranks beside it there.
struct Placement : Cores {
  int node = 0;  // number of this rank's node, from 0 in the order of their lowest ranks
  int nodes = 1;
  int ranks_on_node = 1;
  int cores = 1;                                // physical cores among this rank's hardware threads
  int node_cores = 1;                           // the same, of all ranks on the node together
  std::string binding = {};                     // this rank's hardware threads, "0-3,8"
  std::vector<int> node_hardware_threads = {};  // of all ranks on the node together
};

/// Collective over `world`.
Placement find_placement(MPI_Comm world);

/// Threads for this rank: `asked`, or for 0 its own cores where it has them alone, else its share of the
/// node's, at least 1.
int threads_for(std::int64_t asked, const Placement& placement);

}  // namespace longseq
