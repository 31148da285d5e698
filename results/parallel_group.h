// Writes a group of a file that all ranks have open, every rank its own slices.
#pragma once

#include <hdf5.h>
#include <mpi.h>

#include <cstdint>
#include <string>

#include "results/hdf5_handle.h"
#include "results/record.h"

namespace longseq::hdf5 {

/// Collective: every rank writes `values` where its file and memory selections say (perhaps nothing: they are
/// still part of the transfer). Throws on all ranks if one could not.
void write_collectively(MPI_Comm comm, hid_t dataset, hid_t memory_space, hid_t file_space,
                        const Values& values, std::size_t width, const std::string& name);

/// What a dataset takes in the file beside its values, at most: its header, its name, its links to scales.
inline constexpr std::int64_t kDatasetOverhead = 4 << 10;

/// Collective: an upper bound of the bytes that the group takes in the file, the same on all ranks.
std::int64_t stored_size(MPI_Comm comm, const Group& group);

/// Collective: writes the group's attributes, axes (as dimension scales) and arrays into the open group. The
/// group is what agreed_group() returned. Throws on all ranks if one could not.
void write_group(MPI_Comm comm, hid_t location, const Group& group);

}  // namespace longseq::hdf5
