// The machine and the software a number was obtained on: provenance, stored beside every result.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "suite/case.h"

namespace longseq {

struct Environment {
  // the code
  std::string code_version;  // of git describe, or the project's version where there is no git
  bool code_dirty = false;   // built from a tree with uncommitted changes
  std::string compiler;
  std::string compiler_flags;
  std::string mpi_library;
  std::string simd_target;  // left empty here: the kernels know it
  // rank 0's node
  std::string operating_system;
  std::string cpu_model;
  std::string governor;  // "unknown" where the kernel does not say
  std::int64_t sockets = 0;
  std::int64_t cores = 0;  // physical, of the whole node
  std::int64_t hardware_threads = 0;
  std::int64_t numa_nodes = 0;
  std::int64_t l1d_bytes = 0;  // per core
  std::int64_t l2_bytes = 0;   // each
  std::int64_t l3_bytes = 0;   // each; 0 where there is none
  std::int64_t memory_bytes = 0;
  std::int64_t memory_available_bytes = 0;
  // the launch
  std::string started;  // UTC, ISO 8601: "2025-01-31T12:34:56Z"
  std::int64_t ranks = 0;
  std::int64_t nodes = 0;
  std::vector<std::string> hostnames;  // of each rank
  std::vector<std::string>
      bindings;  // of each rank: hardware threads it may use, as hwloc lists them: "0-3,8"
  std::vector<std::int64_t> memory_available;                  // of each rank's node, bytes
  std::vector<std::pair<std::string, std::string>> scheduler;  // SLURM_*, PBS_*, ... of rank 0
};

/// Collective over `world`; every rank gets the whole.
Environment read_environment(MPI_Comm world);

/// The scalar entries by name, as results store them as attributes. The per-rank lists are not in it.
std::vector<std::pair<std::string, Scalar>> fields(const Environment& environment);

/// Now, UTC, ISO 8601 to the second.
std::string utc_now();

}  // namespace longseq
