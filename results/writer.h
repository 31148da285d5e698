// Writes a results file from all ranks so that a crash loses no finished case: whatever lies at `path` is
// always a complete, readable HDF5 file. Each change is made to a copy beside it (`path`.partial), closed on
// all ranks, and renamed over it.
//
//   Writer writer(comm, path, configuration_id);         // refuses before anything is measured
//   if (writer.complete()) return;                       // all done by an earlier launch
//   writer.begin({environment, config, calibration});
//   for (auto i = writer.finished_cases(); i < cases; ++i) writer.append(measure(i));
//   writer.finish();
#pragma once

#include <mpi.h>

#include <cstdint>
#include <filesystem>
#include <string>

#include "results/record.h"

namespace longseq {

/// Every member that writes, and the constructor, is collective over the communicator. If any of them fails
/// on one rank it throws the same error on all ranks, and the file at `path` stays as it was.
class Writer {
 public:
  /// Looks at `path` and chooses: nothing there, a new file; an incomplete file of the same configuration, it
  /// is continued (finished_cases() > 0 if any was finished); a complete one, complete() is true.
  /// `configuration_id` is a digest of everything that makes two launches the same measurement. Writes
  /// nothing but an empty `path`.partial to learn whether it could; a partial file left by a crash is
  /// dropped. Throws std::invalid_argument if another configuration's file, or anything but a longseq results
  /// file, lies at `path`; std::runtime_error if the directory cannot be written or is not shared by all
  /// ranks.
  Writer(MPI_Comm comm, std::filesystem::path path, std::string configuration_id);

  /// The number of cases already in the file.
  std::int64_t finished_cases() const { return finished_cases_; }
  /// Whether every case is in the file: nothing is left to be done.
  bool complete() const { return complete_; }
  /// 0 in the launch that made the file, 1 in the first one that continued it, ...
  std::int64_t launch() const { return launch_; }

  /// Writes the new file with its header and no case; a launch that continues a file adds its own environment
  /// and calibration under /resumed/NNNN (its cases were measured under other ceilings) and leaves the
  /// config.
  void begin(const RunHeader& header);

  /// Adds case number finished_cases(). Rank 0's attributes, columns, axes and undistributed arrays count;
  /// every rank gives its slices of the distributed ones, named in the same order.
  /// Throws std::invalid_argument if an array's size is not that of its axes, if a name is missing, doubled
  /// or not [A-Za-z][A-Za-z0-9_]*, or if the columns differ from the cases' before it.
  void append(const CaseRecord& record);

  /// Marks the file complete.
  void finish();

 private:
  template <class Edit>
  void replace_file(bool create, std::int64_t growth, const Edit& edit);

  MPI_Comm comm_;
  std::filesystem::path path_;
  std::string configuration_id_;
  std::int64_t finished_cases_ = 0;
  std::int64_t launch_ = 0;
  bool complete_ = false;
  bool begun_ = false;
};

}  // namespace longseq
