// Writes a made-up results file for schema_test.py: mpirun -n 3 write_sample OUTPUT.h5 [CASES [KILL_AT]].
// With KILL_AT, rank 0 dies by SIGKILL before that case, and the next call continues.
#include <mpi.h>
#include <signal.h>

#include <cstdio>
#include <cstdlib>
#include <exception>

#include "results/sample_record.h"
#include "results/writer.h"

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  try {
    const long cases = argc > 2 ? std::strtol(argv[2], nullptr, 10) : 3;
    const long kill_at = argc > 3 ? std::strtol(argv[3], nullptr, 10) : -1;
    longseq::Writer writer(MPI_COMM_WORLD, argc > 1 ? argv[1] : "", longseq::sample::kConfigurationId);
    if (rank == 0) std::printf("%ld cases finished before\n", static_cast<long>(writer.finished_cases()));
    if (!writer.complete()) {
      writer.begin(longseq::sample::header(MPI_COMM_WORLD));
      for (long i = writer.finished_cases(); i < cases; ++i) {
        if (rank == 0 && i == kill_at) ::raise(SIGKILL);
        writer.append(longseq::sample::case_record(MPI_COMM_WORLD, i));
      }
      writer.finish();
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "[rank %d] %s\n", rank, error.what());
    MPI_Abort(MPI_COMM_WORLD, 1);
  }
  MPI_Finalize();
  return 0;
}
