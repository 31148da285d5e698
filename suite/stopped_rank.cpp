// A job of which one rank stops, as if its host had hung, before all meet in MPI: stopped_rank RANK
// world|library.
#include <mpi.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string_view>

int main(int count, char** arguments) {
  MPI_Init(&count, &arguments);
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm of_library = MPI_COMM_NULL;
  MPI_Comm_dup(MPI_COMM_WORLD, &of_library);
  if (rank == std::atoi(arguments[1])) std::raise(SIGSTOP);
  int one = 1, all = 0;
  MPI_Allreduce(&one, &all, 1, MPI_INT, MPI_SUM,
                std::string_view(arguments[2]) == "world" ? MPI_COMM_WORLD : of_library);
  std::printf("%d ranks answered\n", all);
  MPI_Finalize();
}
