// A ring of parties of ranks that share heads (Fang & Zhao 2024, "USP"): within a party an all-to-all turns
// shards of tokens with all heads into the party's tokens with a share of the heads; keys travel from party
// to party. Parties of one rank are a plain ring; a single party is Ulysses.
//
// At hop h a rank computes with the keys of the party h places before it. They come from the neighbour, if
// that one needed them too, else straight from their owner: nobody receives keys that it does not see merely
// to pass them on. So a causal ring moves half of all keys with contiguous shards, three quarters with zigzag
// ones, and the work of each step stays as balanced as the layout makes it.
//
// Backward, keys travel the same way. The gradient of a block of keys follows them a step behind, each rank
// adding its own share; rows that are passed on no further go home.
#pragma once

#include "drivers/sharding/plan.h"

namespace longseq {

/// `degree`: ranks of a party; divides the number of ranks.
PlanRank party_ring(const Problem& problem, int degree);

}  // namespace longseq
