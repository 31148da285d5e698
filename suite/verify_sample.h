// Which rows are recomputed to judge an output, and who sees whom, by code that shares nothing with the
// engine, the patterns' intervals or the plans.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <vector>

#include "kernels/pattern.h"

namespace longseq {

/// Whether query i sees key j: straight from the table in maths.md, section 2.
bool sees(const Pattern& p, std::int64_t i, std::int64_t j);

/// Positions to recompute: all, or evenly spread ones with both ends, twice as many as ranks at least, so
/// that each rank's output is looked at. `heads`: of all batch entries.
std::vector<std::int64_t> sample(std::int64_t seq_len, std::int64_t heads, std::int64_t head_dim,
                                 std::int64_t ranks);

/// Local row of a position, or −1.
std::int64_t row_of(const std::vector<Run>& runs, std::int64_t position);

/// Each number's sum over the ranks, on all of them. Collective.
void sum_over_ranks(MPI_Comm comm, std::vector<double>& values);

}  // namespace longseq
