// Tensors in HDF5 files, each rank its own shard: the input and output of `longseq attend`.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "drivers/sharding/layout.h"
#include "kernels/tensor.h"
#include "results/hdf5_handle.h"

namespace longseq {

/// An input file, open for reading on this rank alone (no collective calls).
class TensorInput {
 public:
  /// Throws std::invalid_argument if there is no such file or it is not HDF5.
  explicit TensorInput(const std::string& path);

  bool has(const std::string& name) const;
  /// The extents of a dataset of `rank` dimensions of f32 or f64, or of whole numbers where `whole`. Throws
  /// std::invalid_argument, with what it found, if it is missing, of another rank or of another type.
  std::vector<std::int64_t> extents(const std::string& name, int rank, bool whole = false) const;
  /// Whether the dataset holds f64.
  bool is_double(const std::string& name) const;

  /// Reads the shard's rows of a (batch, heads, tokens, head_dim) dataset. Throws std::runtime_error if the
  /// file ends before its data.
  template <class T>
  void read(const std::string& name, const Shard& shard, TensorView<T> rows) const;

  template <class T>
  std::vector<T> read_all(const std::string& name) const;

 private:
  hdf5::Handle open(const std::string& name) const;

  std::string path_;
  hdf5::Handle file_;
};

/// An output file, written by all ranks together beside its place and renamed when it is whole. All members
/// are collective and throw on all ranks.
class TensorOutput {
 public:
  /// Throws std::invalid_argument if something that is not empty lies at `path`, std::runtime_error if it
  /// cannot be written.
  TensorOutput(MPI_Comm comm, std::filesystem::path path, std::int64_t bytes);
  ~TensorOutput();
  /// Creates the file, beside its place.
  void open();

  TensorOutput(const TensorOutput&) = delete;
  TensorOutput& operator=(const TensorOutput&) = delete;

  /// Creates a dataset of this whole shape, (batch, heads, tokens) or (batch, heads, tokens, width), and
  /// writes the shard's rows: dense, (batch, heads, local rows[, width]).
  template <class T>
  void write(const std::string& name, std::vector<std::int64_t> extents, const Shard& shard,
             TensorView<const T> rows);

  /// Creates a dataset of this shape; rank 0 writes its values, those of other ranks are ignored.
  template <class T>
  void write_from_rank_0(const std::string& name, const std::vector<std::int64_t>& extents,
                         const std::vector<T>& values);

  void finish();

 private:
  MPI_Comm comm_;
  std::filesystem::path path_;
  hdf5::Handle file_;
};

}  // namespace longseq
