// The blocking collectives that this program and HDF5 call, and those of files, watched: where the others
// wait for a rank that has stopped, the job ends. They stand before MPI's own by its profiling interface
// (MPI 4.0, 15.2). Messages from rank to rank are not among them: their latency is measured.
#include <mpi.h>

#include <string>

#include "suite/watchdog.h"

namespace longseq {
namespace {

constexpr double kFiles = 10;  // a disk may be slow

/// Of all ranks, those that have not come are named; of fewer, or within a library, only the call.
class Collective {
 public:
  Collective(MPI_Comm comm, const char* name) : call_(name) {
    if (comm == MPI_COMM_WORLD) arrive_watched(comm, std::string("join in ") + name);
  }

 private:
  WatchedCall call_;
};

}  // namespace
}  // namespace longseq

using longseq::Collective;
using longseq::kFiles;
using longseq::WatchedCall;

extern "C" {

int MPI_Barrier(MPI_Comm comm) {
  const Collective call(comm, "MPI_Barrier");
  return PMPI_Barrier(comm);
}

int MPI_Bcast(void* buffer, int count, MPI_Datatype type, int root, MPI_Comm comm) {
  const Collective call(comm, "MPI_Bcast");
  return PMPI_Bcast(buffer, count, type, root, comm);
}

int MPI_Reduce(const void* own, void* all, int count, MPI_Datatype type, MPI_Op op, int root, MPI_Comm comm) {
  const Collective call(comm, "MPI_Reduce");
  return PMPI_Reduce(own, all, count, type, op, root, comm);
}

int MPI_Allreduce(const void* own, void* all, int count, MPI_Datatype type, MPI_Op op, MPI_Comm comm) {
  const Collective call(comm, "MPI_Allreduce");
  return PMPI_Allreduce(own, all, count, type, op, comm);
}

int MPI_Allgather(const void* own, int count, MPI_Datatype type, void* all, int of_each,
                  MPI_Datatype all_type, MPI_Comm comm) {
  const Collective call(comm, "MPI_Allgather");
  return PMPI_Allgather(own, count, type, all, of_each, all_type, comm);
}

int MPI_Allgatherv(const void* own, int count, MPI_Datatype type, void* all, const int* counts,
                   const int* places, MPI_Datatype all_type, MPI_Comm comm) {
  const Collective call(comm, "MPI_Allgatherv");
  return PMPI_Allgatherv(own, count, type, all, counts, places, all_type, comm);
}

int MPI_Gather(const void* own, int count, MPI_Datatype type, void* all, int of_each, MPI_Datatype all_type,
               int root, MPI_Comm comm) {
  const Collective call(comm, "MPI_Gather");
  return PMPI_Gather(own, count, type, all, of_each, all_type, root, comm);
}

int MPI_Gatherv(const void* own, int count, MPI_Datatype type, void* all, const int* counts,
                const int* places, MPI_Datatype all_type, int root, MPI_Comm comm) {
  const Collective call(comm, "MPI_Gatherv");
  return PMPI_Gatherv(own, count, type, all, counts, places, all_type, root, comm);
}

int MPI_Scatterv(const void* all, const int* counts, const int* places, MPI_Datatype all_type, void* own,
                 int count, MPI_Datatype type, int root, MPI_Comm comm) {
  const Collective call(comm, "MPI_Scatterv");
  return PMPI_Scatterv(all, counts, places, all_type, own, count, type, root, comm);
}

int MPI_Comm_dup(MPI_Comm comm, MPI_Comm* made) {
  const Collective call(comm, "MPI_Comm_dup");
  return PMPI_Comm_dup(comm, made);
}

int MPI_Comm_split_type(MPI_Comm comm, int type, int key, MPI_Info info, MPI_Comm* made) {
  const Collective call(comm, "MPI_Comm_split_type");
  return PMPI_Comm_split_type(comm, type, key, info, made);
}

int MPI_Finalize() {
  const Collective call(MPI_COMM_WORLD, "MPI_Finalize");
  return PMPI_Finalize();
}

int MPI_File_open(MPI_Comm comm, const char* name, int mode, MPI_Info info, MPI_File* file) {
  const WatchedCall call("MPI_File_open", kFiles);
  return PMPI_File_open(comm, name, mode, info, file);
}

int MPI_File_close(MPI_File* file) {
  const WatchedCall call("MPI_File_close", kFiles);
  return PMPI_File_close(file);
}

int MPI_File_set_size(MPI_File file, MPI_Offset size) {
  const WatchedCall call("MPI_File_set_size", kFiles);
  return PMPI_File_set_size(file, size);
}

int MPI_File_set_view(MPI_File file, MPI_Offset begin, MPI_Datatype element, MPI_Datatype view,
                      const char* representation, MPI_Info info) {
  const WatchedCall call("MPI_File_set_view", kFiles);
  return PMPI_File_set_view(file, begin, element, view, representation, info);
}

int MPI_File_sync(MPI_File file) {
  const WatchedCall call("MPI_File_sync", kFiles);
  return PMPI_File_sync(file);
}

int MPI_File_read_at_all(MPI_File file, MPI_Offset offset, void* buffer, int count, MPI_Datatype type,
                         MPI_Status* status) {
  const WatchedCall call("MPI_File_read_at_all", kFiles);
  return PMPI_File_read_at_all(file, offset, buffer, count, type, status);
}

int MPI_File_write_at_all(MPI_File file, MPI_Offset offset, const void* buffer, int count, MPI_Datatype type,
                          MPI_Status* status) {
  const WatchedCall call("MPI_File_write_at_all", kFiles);
  return PMPI_File_write_at_all(file, offset, buffer, count, type, status);
}

}  // extern "C"
