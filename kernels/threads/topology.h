// This node's hardware as hwloc sees it, and sets of its hardware threads.
#pragma once

#include <hwloc.h>

#include <memory>
#include <string>
#include <vector>

namespace longseq {

/// Where a process may run.
struct Cores {
  std::vector<int> hardware_threads = {};  // as numbers of the operating system
  bool exclusive = true;                   // no other process that takes part may use them
};

struct FreeBitmap {
  void operator()(hwloc_bitmap_t bitmap) const { hwloc_bitmap_free(bitmap); }
};
using CpuSet = std::unique_ptr<hwloc_bitmap_s, FreeBitmap>;

/// The hardware that this process may see, loaded once. Throws std::runtime_error if hwloc cannot.
hwloc_topology_t topology();

/// The hardware threads that the calling thread is bound to; all it may use where it is not bound.
CpuSet thread_cpuset();

/// As hwloc lists them: "0-3,8".
std::string cpu_list(const CpuSet& set);

/// Numbers of the operating system, ascending.
std::vector<int> cpu_numbers(const CpuSet& set);
CpuSet cpuset_of(const std::vector<int>& cpu_numbers);

/// Physical cores with at least one hardware thread in the set.
int cores_in(const CpuSet& set);

/// n single hardware threads of the set, spread over its caches and cores before two share a core. Needs
/// 1 <= n <= hardware threads in the set.
std::vector<CpuSet> spread(const CpuSet& set, int n);

}  // namespace longseq
