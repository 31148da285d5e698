// The strategies: ways in which the ranks exchange keys. Adding one is one file with a plan function and one
// row in kPlanners; the command line, the help and the tests read the table.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "drivers/sharding/plan.h"

namespace longseq {

/// K and V travel from rank to rank, a hop a step, and no further than somebody needs them (Liu et al. 2023,
/// "Ring Attention"). Sent per rank, all keys needed: 2·(P−1)·n·kv_heads·head_dim·e.
RankPlan plan_ring(const Problem& problem, int rank);

/// Every rank gathers all keys in one collective. Sent per rank: 2·(P−1)·n·kv_heads·head_dim·e; memory O(S).
RankPlan plan_allgather(const Problem& problem, int rank);

/// Every rank receives exactly the keys that its queries see, straight from their owners; global tokens' keys
/// come down a tree, and the rows of non-causal global tokens are computed across ranks and joined up a tree.
/// (With striped shards of segments or documents: the hull of the keys of each owner that are seen.) Sent per
/// rank, causal local with n > left: 2·left·kv_heads·head_dim·e.
RankPlan plan_halo(const Problem& problem, int rank);

struct PlannerRow {
  std::string_view name;
  RankPlan (*plan)(const Problem&, int rank);
  std::string_view moves;
};

inline constexpr std::array<PlannerRow, 3> kPlanners{{
    {"ring", plan_ring, "keys travel from rank to rank, overlapped with computing; memory O(S/P)"},
    {"allgather", plan_allgather, "one collective brings every key to every rank; memory O(S)"},
    {"halo", plan_halo,
     "each rank receives exactly the keys that its queries see; global rows are joined by a tree"},
}};

/// Throws std::invalid_argument, naming the strategies there are, for any other name.
const PlannerRow& planner(std::string_view name);

}  // namespace longseq
