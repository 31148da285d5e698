// The table /summary: one extensible column per quantity over the unlimited dimension "case".
#pragma once

#include <hdf5.h>
#include <mpi.h>

#include <cstdint>
#include <vector>

#include "results/record.h"

namespace longseq::hdf5 {

/// An upper bound of the bytes that row number `row` adds to the file.
std::int64_t stored_row_size(const std::vector<Column>& columns, std::int64_t row);

/// Collective: adds row number `row` to the group /summary, which begin with row 0 makes the columns. Throws
/// std::invalid_argument, on all ranks, if names or types differ from those of the rows before it.
void append_row(MPI_Comm comm, hid_t summary, const std::vector<Column>& columns, std::int64_t row);

}  // namespace longseq::hdf5
