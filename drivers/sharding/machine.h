// A machine as the predictor sees it: what computing, moving and joining cost one rank (the α-β-γ model).
#pragma once

#include <string>
#include <vector>

#include "drivers/sharding/plan.h"

namespace longseq {

/// What a rank's kernels cost in one pass and type: FLOPs at a rate, and what each row costs beside them. All
/// threads of the rank together.
struct KernelCosts {
  double flops_per_second = 0;
  double query_row = 0;  // s per row, head and dimension: loaded, turned, written back
  double key_row = 0;
  double masked_row = 0;  // the same of a row that sees only some keys of a tile: what is computed in vain
  double call = 0;        // s per step that computes anything
};

/// What a message takes between two ranks, by its size.
struct Link {
  struct Rate {
    double bytes;
    double per_second;  // B/s, beyond the latency
  };
  double latency = 0;  // s
  // By ascending size; between two sizes by their logarithms, beyond them as the last.
  std::vector<Rate> rates;

  double seconds(double bytes) const;
};

struct Machine {
  std::string name;
  std::string source;
  int ranks_per_node = 1;
  KernelCosts forward;
  KernelCosts backward;
  Link node;                    // one rank copies from another's memory: its own cores do it
  Link network;                 // one rank's share of it, each way
  double memory_bandwidth = 0;  // B/s of one rank

  const KernelCosts& costs(Pass pass) const { return pass == Pass::forward ? forward : backward; }
};

/// Reads a machine for a dtype from a file of `key = value` lines (suite/machines has examples). Throws
/// std::invalid_argument, with file and key, for what is missing, unknown or no positive number;
/// std::runtime_error if it cannot be read.
Machine read_machine(const std::string& path, const std::string& dtype);

/// How many times the FLOPs of a rank's peak in f32 its kernels do in a pass, as measured on one processor
/// (kernels/MEASUREMENTS.md): what a machine file that does not say otherwise is taken to reach.
inline constexpr double kUsualEfficiency = 0.85;

}  // namespace longseq
