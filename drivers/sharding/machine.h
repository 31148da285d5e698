// A machine as the predictor sees it: what computing, moving and joining cost one rank (the α-β-γ model).
#pragma once

#include <string>

#include "drivers/sharding/plan.h"

namespace longseq {

/// What a rank's kernels cost in one pass and type: FLOPs at a rate, and what each row costs beside them. All
/// threads of the rank together.
struct KernelCosts {
  double flops_per_second = 0;
  double query_row = 0;  // s per row, head and dimension: loaded, turned, written back
  double key_row = 0;
  double call = 0;  // s per step that computes anything
};

struct Machine {
  std::string name;
  std::string source;
  int ranks_per_node = 1;
  KernelCosts forward;
  KernelCosts backward;
  double node_latency = 0;       // s between ranks of a node
  double node_bandwidth = 0;     // B/s that one rank copies from another's memory: its own cores do it
  double network_latency = 0;    // s between nodes
  double network_bandwidth = 0;  // B/s of one rank's share of the network, each way
  double memory_bandwidth = 0;   // B/s of one rank

  const KernelCosts& costs(Pass pass) const { return pass == Pass::forward ? forward : backward; }
};

/// Reads a machine for a dtype from a file of `key = value` lines (suite/machines has examples). Throws
/// std::invalid_argument, with file and key, for what is missing, unknown or no positive number;
/// std::runtime_error if it cannot be read.
Machine read_machine(const std::string& path, const std::string& dtype);

/// How many times the FLOPs of a rank's peak in f32 its kernels do in a pass, as measured on one processor
/// (kernels/README.md): what a machine file that does not say otherwise is taken to reach.
inline constexpr double kUsualEfficiency = 0.85;

}  // namespace longseq
