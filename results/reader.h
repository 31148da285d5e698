// Reads a results file: serial, no MPI. A file that is not complete reads as one with fewer cases.
#pragma once

#include <cstdint>
#include <string>

#include "results/hdf5_handle.h"
#include "results/record.h"

namespace longseq {

/// The attributes of "/".
struct FileIdentity {
  std::string schema_version;
  std::string run_uuid;
  std::string created;  // ISO 8601, UTC
  std::string configuration_id;
  bool complete = false;
};

/// Holds the file open. Every member throws std::runtime_error if what it reads is damaged.
class Reader {
 public:
  /// Throws std::invalid_argument if there is no readable HDF5 file at `path`, if it is not a longseq results
  /// file, or if the major number of its schema is not this program's.
  explicit Reader(const std::string& path);

  const FileIdentity& identity() const { return identity_; }
  std::int64_t finished_cases() const { return finished_cases_; }
  /// The launches that wrote the file: 1, and one for each that continued it.
  std::int64_t launches() const { return launches_; }

  Group config() const;
  /// Of the given launch, 0 <= launch < launches(); else throws std::invalid_argument.
  Group environment(std::int64_t launch = 0) const;
  Group calibration(std::int64_t launch = 0) const;

  /// The columns as arrays over the axis "case"; empty if no case is finished.
  Group summary() const;
  /// Everything about case number `index`, 0 <= index < finished_cases(); else throws std::invalid_argument.
  Group case_group(std::int64_t index) const;

 private:
  Group of_launch(std::int64_t launch, const std::string& name) const;

  hdf5::Handle file_;
  FileIdentity identity_;
  std::int64_t finished_cases_ = 0;
  std::int64_t launches_ = 0;
};

/// Where case number `index` is kept: "/cases/0007".
std::string case_path(std::int64_t index);

/// Where the launch that continued a file for the `launch`-th time is kept: "/resumed/0001".
std::string resumed_path(std::int64_t launch);

}  // namespace longseq
