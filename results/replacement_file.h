// Replacing a file so that a crash at any moment leaves the old one or the new one, whole.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <filesystem>

namespace longseq {

/// Where the next version of `path` is made: beside it, so that a rename does not copy.
std::filesystem::path partial_path(const std::filesystem::path& path);

/// Collective. Learns whether the partial file can be made and is seen by every rank, and leaves none behind.
/// Throws std::runtime_error, on all ranks, if not.
void probe_partial(MPI_Comm comm, const std::filesystem::path& path);

/// One rank: starts the partial file, as a copy of `path` or empty, and reserves the disk for `growth` bytes
/// more. Throws std::runtime_error if there is no room: here, where one rank alone can say so, as a parallel
/// write that finds the disk full hangs or crashes (Open MPI 4.1, HDF5 1.10).
void start_partial(const std::filesystem::path& path, bool copy, std::int64_t growth);

/// One rank: makes the closed partial file durable and renames it over `path`. Throws std::runtime_error.
void commit_partial(const std::filesystem::path& path);

/// One rank: removes the partial file if there is one; never throws.
void drop_partial(const std::filesystem::path& path) noexcept;

}  // namespace longseq
