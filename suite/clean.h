// Is the environment CLEAN: did anything disturb the measurement? Each breach gets a name.
#pragma once

#include <mpi.h>

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "suite/placement.h"

namespace longseq {

/// Seconds of processor time so far on the hardware threads that this node's ranks may use.
struct CpuTime {
  double wall = 0;
  double busy = 0;     // all processes, and what the hypervisor took away
  double own = 0;      // this launch's ranks on the node
  bool known = false;  // false where /proc/stat says nothing
};

/// Collective over the ranks of `world` that share a node (all ranks of `world` must call it).
CpuTime read_cpu_time(MPI_Comm world, const Placement& placement);

/// Hardware threads that others kept busy on average between the two; nothing if unknown or no time passed.
std::optional<double> busy_by_others(const CpuTime& before, const CpuTime& after);

/// A ceiling measured before and after, by name and in any unit.
struct CeilingPair {
  std::string name;  // "FMA peak f32"
  double before = 0;
  double after = 0;
};

/// What must hold on every node for the environment to be clean.
struct Conditions {
  int ranks_on_node = 1;
  int threads_per_rank = 1;
  int node_cores = 1;
  bool exclusive = true;                      // ranks do not share hardware threads
  std::optional<double> busy_by_others = {};  // hardware threads
  std::vector<CeilingPair> ceilings = {};
};

/// One reason per breach, none when clean: more threads than cores, ranks that share cores, others busy on
/// more cores than are left over (0.1 + 5 % tolerated), a ceiling that changed by more than 10 %.
std::vector<std::string> check_clean(const Conditions& conditions);

/// The reasons of all ranks, each once, the same on every rank. Collective.
std::vector<std::string> gather_reasons(MPI_Comm world, std::span<const std::string> reasons);

}  // namespace longseq
