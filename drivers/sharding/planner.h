// The strategies: ways in which queries meet the keys of other ranks. Adding one is one file with a plan
// function and one row in kPlanners; the command line, the help and the tests read the table. What the plans
// of all ranks share is made once; the problem must outlive it.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "drivers/sharding/plan.h"

namespace longseq {

/// K and V travel from rank to rank, a hop a step, and no further than somebody needs them (Liu et al. 2023,
/// "Ring Attention"). Sent per rank, all keys needed: 2·(P−1)·n·kv_heads·head_dim·e; backward the same again,
/// and 2·(P−1)·n·kv_heads·head_dim·a for dK and dV, since each rank adds its own share at home.
PlanRank plan_ring(const Problem& problem);

/// Every rank gathers all keys in one collective. Sent per rank: 2·(P−1)·n·kv_heads·head_dim·e; memory O(S).
/// Backward the same, and the gradients of each block that it sees to its owner, at most
/// 2·(P−1)·n·kv_heads·head_dim·a.
PlanRank plan_allgather(const Problem& problem);

/// Every rank receives exactly the keys that its queries see, straight from their owners; global tokens' keys
/// come down a tree, and the rows of non-causal global tokens are computed across ranks and joined up a tree.
/// (With striped shards of segments or documents: the hull of the keys of each owner that are seen.) Sent per
/// rank, causal local with n > left: 2·left·kv_heads·head_dim·e.
PlanRank plan_halo(const Problem& problem);

/// An all-to-all turns shards of tokens into shares of heads, and back (Jacobs et al. 2023, "DeepSpeed
/// Ulysses"). Any number of heads: shares may be uneven, and ranks without one idle. Sent per rank,
/// forward, (P−1)/P·n·(2·heads + 2·kv_heads')·head_dim·e + (P−1)/P·n·heads·a for lse, kv_heads' =
/// max(kv_heads, P); backward, which keeps nothing of the forward pass, (P−1)/P·n·((2·heads +
/// 2·kv_heads')·head_dim·e + (heads + 2·kv_heads')·head_dim·a + 2·heads·a).
PlanRank plan_ulysses(const Problem& problem);

/// Ulysses within parties of ulysses_degree ranks, a ring between them (Fang & Zhao 2024, "USP"). Throws
/// std::invalid_argument if the degree does not divide the ranks.
PlanRank plan_usp(const Problem& problem);

/// The ranks of a party that plan_usp takes: ulysses_degree, or where that is 0 the largest divisor of the
/// ranks and of the key heads that is not more than the ranks' square root: no key head is then needed twice.
int usp_degree(const Problem& problem);

struct PlannerRow {
  std::string_view name;
  PlanRank (*prepare)(const Problem&);
  std::string_view moves;
};

inline constexpr std::array<PlannerRow, 5> kPlanners{{
    {"ring", plan_ring, "keys travel from rank to rank, overlapped with computing; memory O(S/P)"},
    {"allgather", plan_allgather, "one collective brings every key to every rank; memory O(S)"},
    {"ulysses", plan_ulysses, "all-to-all: every rank gets all tokens of its share of the heads"},
    {"usp", plan_usp, "ulysses within parties of ranks, a ring between the parties"},
    {"halo", plan_halo,
     "each rank receives exactly the keys that its queries see; global rows are joined by a tree"},
}};

/// Throws std::invalid_argument, naming the strategies there are, for any other name.
const PlannerRow& planner(std::string_view name);

}  // namespace longseq
