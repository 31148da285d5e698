// How the gradients of a backward plan begin: the first tile to reach rows of a buffer writes them. A tile
// that finds a part of its rows given writes the rest if these are keys in one run; else the rest is set to
// zero before, and so is what no tile gives.
#pragma once

#include <cstddef>
#include <vector>

#include "drivers/sharding/area.h"
#include "drivers/sharding/plan.h"

namespace longseq {

struct GradientStarts {
  /// Which of a tile's gradients it is the first to give.
  struct OfTile {
    bool queries = false;  // of all
    Interval keys{};       // of these rows of the buffer
  };
  /// Rows of some heads that are set to zero before a step, or after the last.
  struct Zero {
    std::size_t step;
    int buffer;
    Area area;
  };
  std::vector<OfTile> tiles;  // in the order of the plan
  std::vector<Zero> zeros;    // by step
};

/// Tiles that give the same rows must be computed in the plan's order.
GradientStarts gradient_starts(const Problem& problem, const RankPlan& plan);

}  // namespace longseq
