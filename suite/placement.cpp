#include "suite/placement.h"

#include <algorithm>

#include "kernels/threads/topology.h"
#include "suite/gather.h"

namespace longseq {
namespace {

/// The nodes are numbered by their lowest ranks.
void number_nodes(MPI_Comm world, MPI_Comm node, Placement& placement) {
  int rank = 0, ranks = 0;
  MPI_Comm_rank(world, &rank);
  MPI_Comm_size(world, &ranks);
  int lowest = rank;
  MPI_Bcast(&lowest, 1, MPI_INT, 0, node);
  std::vector<int> lowests(static_cast<std::size_t>(ranks));
  MPI_Allgather(&lowest, 1, MPI_INT, lowests.data(), 1, MPI_INT, world);
  std::sort(lowests.begin(), lowests.end());
  lowests.erase(std::unique(lowests.begin(), lowests.end()), lowests.end());
  placement.nodes = static_cast<int>(lowests.size());
  placement.node = static_cast<int>(std::find(lowests.begin(), lowests.end(), lowest) - lowests.begin());
}

}  // namespace

Placement find_placement(MPI_Comm world) {
  Placement placement;
  const NodeComm node(world);
  number_nodes(world, node.get(), placement);
  int rank = 0;
  MPI_Comm_rank(node.get(), &rank);
  MPI_Comm_size(node.get(), &placement.ranks_on_node);

  const CpuSet mine = thread_cpuset();
  placement.binding = cpu_list(mine);
  placement.hardware_threads = cpu_numbers(mine);
  placement.cores = cores_in(mine);
  const std::vector<std::string> lists = all_gather(node.get(), placement.binding);
  const CpuSet together(hwloc_bitmap_dup(mine.get()));
  for (int r = 0; r < placement.ranks_on_node; ++r) {
    if (r == rank) continue;
    const CpuSet other(hwloc_bitmap_alloc());
    hwloc_bitmap_list_sscanf(other.get(), lists[static_cast<std::size_t>(r)].c_str());
    if (hwloc_bitmap_intersects(other.get(), mine.get())) placement.exclusive = false;
    hwloc_bitmap_or(together.get(), together.get(), other.get());
  }
  placement.node_cores = cores_in(together);
  placement.node_hardware_threads = cpu_numbers(together);
  return placement;
}

int threads_for(std::int64_t asked, const Placement& placement) {
  if (asked > 0) return static_cast<int>(asked);
  if (placement.exclusive) return placement.cores;
  return std::max(1, placement.node_cores / placement.ranks_on_node);
}

}  // namespace longseq
