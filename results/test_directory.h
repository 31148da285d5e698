// A fresh directory that all ranks of a test share.
#pragma once

#include <mpi.h>
#include <stdlib.h>

#include <filesystem>
#include <string>

namespace longseq {

/// Collective. Made by rank 0 and removed by it, once all ranks have left.
class TestDirectory {
 public:
  explicit TestDirectory(MPI_Comm comm) : comm_(comm) {
    MPI_Comm_rank(comm_, &rank_);
    std::string name = (std::filesystem::temp_directory_path() / "longseq-results-XXXXXX").string();
    if (rank_ == 0 && ::mkdtemp(name.data()) == nullptr) MPI_Abort(comm_, 1);
    MPI_Bcast(name.data(), static_cast<int>(name.size()), MPI_CHAR, 0, comm_);
    path_ = name;
  }
  ~TestDirectory() {
    MPI_Barrier(comm_);
    if (rank_ == 0) std::filesystem::remove_all(path_);
  }
  TestDirectory(const TestDirectory&) = delete;
  TestDirectory& operator=(const TestDirectory&) = delete;

  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  MPI_Comm comm_;
  int rank_ = 0;
  std::filesystem::path path_;
};

}  // namespace longseq
