#include "kernels/threads/topology.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <limits>
#include <stdexcept>

namespace longseq {
namespace {

struct FreeTopology {
  void operator()(hwloc_topology_t t) const { hwloc_topology_destroy(t); }
};
using TopologyHandle = std::unique_ptr<hwloc_topology, FreeTopology>;

TopologyHandle load() {
  hwloc_topology_t raw = nullptr;
  if (hwloc_topology_init(&raw) != 0) throw std::runtime_error("hwloc cannot start: no memory?");
  TopologyHandle handle(raw);
  if (hwloc_topology_load(raw) != 0) {
    throw std::runtime_error(
        fmt::format("hwloc cannot read this node's topology: {}; hint: try lstopo", std::strerror(errno)));
  }
  return handle;
}

}  // namespace

hwloc_topology_t topology() {
  static const TopologyHandle handle = load();
  return handle.get();
}

CpuSet thread_cpuset() {
  CpuSet set(hwloc_bitmap_alloc());
  const hwloc_const_cpuset_t allowed = hwloc_topology_get_allowed_cpuset(topology());
  if (hwloc_get_cpubind(topology(), set.get(), HWLOC_CPUBIND_THREAD) != 0)
    hwloc_bitmap_copy(set.get(), allowed);
  hwloc_bitmap_and(set.get(), set.get(), allowed);
  return set;
}

std::string cpu_list(const CpuSet& set) {
  std::string text(static_cast<std::size_t>(hwloc_bitmap_list_snprintf(nullptr, 0, set.get())), '\0');
  hwloc_bitmap_list_snprintf(text.data(), text.size() + 1, set.get());
  return text;
}

std::vector<int> cpu_numbers(const CpuSet& set) {
  std::vector<int> numbers;
  for (int cpu = hwloc_bitmap_first(set.get()); cpu >= 0; cpu = hwloc_bitmap_next(set.get(), cpu)) {
    numbers.push_back(cpu);
  }
  return numbers;
}

CpuSet cpuset_of(const std::vector<int>& cpu_numbers) {
  CpuSet set(hwloc_bitmap_alloc());
  for (const int cpu : cpu_numbers) hwloc_bitmap_set(set.get(), static_cast<unsigned>(cpu));
  return set;
}

int cores_in(const CpuSet& set) {
  int cores = 0;
  for (hwloc_obj_t core = nullptr; (core = hwloc_get_next_obj_by_type(topology(), HWLOC_OBJ_CORE, core));) {
    cores += hwloc_bitmap_intersects(core->cpuset, set.get());
  }
  // Some virtual machines show no cores, only hardware threads.
  return cores > 0 ? cores : hwloc_bitmap_weight(set.get());
}

std::vector<CpuSet> spread(const CpuSet& set, int n) {
  hwloc_topology_t raw = nullptr;
  if (hwloc_topology_dup(&raw, topology()) != 0)
    throw std::runtime_error("hwloc cannot copy the topology: no memory?");
  const TopologyHandle own(raw);
  if (hwloc_topology_restrict(raw, set.get(), 0) != 0) {
    throw std::runtime_error(fmt::format("hwloc cannot restrict the topology to {}", cpu_list(set)));
  }
  std::vector<hwloc_cpuset_t> places(static_cast<std::size_t>(n));
  hwloc_obj_t root = hwloc_get_root_obj(raw);
  hwloc_distrib(raw, &root, 1, places.data(), static_cast<unsigned>(n), std::numeric_limits<int>::max(), 0);
  std::vector<CpuSet> singles;
  for (const hwloc_cpuset_t place : places) {
    hwloc_bitmap_singlify(place);
    singles.emplace_back(place);
  }
  return singles;
}

}  // namespace longseq
