// Makes the ranks' records one: what rank 0 says, with every rank's own slices.
#pragma once

#include <mpi.h>

#include <string>
#include <vector>

#include "results/record.h"

namespace longseq {

/// Collective. Rank 0's columns, on every rank.
std::vector<Column> agreed_columns(MPI_Comm comm, const std::vector<Column>& mine);

/// Collective. Rank 0's attributes, axes and description of each array, on every rank; the values of
/// distributed arrays are this rank's, those of undistributed ones are empty but on rank 0. The axes "rank"
/// and "peer" are added if an array uses them and rank 0 did not give them.
/// Throws std::invalid_argument, on all ranks, if a name is missing, doubled or not [A-Za-z][A-Za-z0-9_]*, if
/// an array uses an unknown axis, or if its type, place or size on any rank is not as described; `where`
/// names the group in the message.
Group agreed_group(MPI_Comm comm, const Group& mine, const std::string& where);

}  // namespace longseq
