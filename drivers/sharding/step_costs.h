// What each step of a rank's plan costs on a machine: its tiles' FLOPs and rows at the kernels' rate, the
// bytes that it takes in, and what it touches of memory beside its tiles: partial results and gradients that
// are joined, gradients that are set to zero first, own keys copied to their place among all.
#pragma once

#include <boost/container/small_vector.hpp>
#include <vector>

#include "drivers/sharding/machine.h"

namespace longseq {

/// One rank's step, priced.
struct StepCost {
  struct Incoming {
    int peer;
    double bytes;
  };
  double compute = 0;  // s
  double merge = 0;    // s: joining, and what else touches memory beside the tiles
  boost::container::small_vector<Incoming, 2> incoming;  // by peer
};

std::vector<StepCost> price(const Problem& problem, const Machine& machine, const RankPlan& plan);

}  // namespace longseq
