#include "drivers/ending.h"

#include <fmt/format.h>
#include <mpi.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>

#include "suite/watchdog.h"

namespace longseq {
namespace {

constexpr int kBadInput = 2;
constexpr int kFailure = 1;
constexpr std::chrono::seconds kMoment{5};  // for the other ranks to fail as well
constexpr double kOfWatchdog = 0.25;        // and less than theirs with this one, which would say less

struct Failure {
  std::string message;
  int status = 0;
};

/// Runs work; an exception is turned into its message and status.
int attempt(const std::function<int()>& work, Failure& failure) {
  try {
    return work();
  } catch (const std::invalid_argument& error) {
    failure = {error.what(), kBadInput};
  } catch (const std::bad_alloc&) {
    failure = {"out of memory; hint: a shorter --seq-len, fewer heads or more ranks", kFailure};
  } catch (const std::exception& error) {
    failure = {error.what(), kFailure};
  }
  return failure.status;
}

std::string host() {
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  return name.data();
}

/// Whether the launcher (Open MPI, MPICH's Hydra, Slurm) calls this process rank 0, or there is no launcher:
/// without MPI only the environment tells.
bool is_first_of_launch() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID"}) {
    if (const char* rank = std::getenv(name)) return std::string_view(rank) == "0";
  }
  return true;
}

/// Whether every rank has come here before the patience ends.
bool all_ranks_arrive() {
  MPI_Request request = MPI_REQUEST_NULL;
  MPI_Ibarrier(MPI_COMM_WORLD, &request);
  std::chrono::duration<double> patience = kMoment;
  if (watchdog_seconds() > 0)
    patience = std::min(patience, std::chrono::duration<double>(kOfWatchdog * watchdog_seconds()));
  const auto deadline = std::chrono::steady_clock::now() + patience;
  int arrived = 0;
  while (true) {
    MPI_Test(&request, &arrived, MPI_STATUS_IGNORE);
    if (arrived != 0 || std::chrono::steady_clock::now() > deadline) return arrived != 0;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

}  // namespace

int run_alone(const std::function<int()>& work) {
  Failure failure;
  const int status = attempt(work, failure);
  if (failure.status == 0) return status;
  if (is_first_of_launch()) {
    fmt::print(stderr, "longseq: {}\n", failure.message);
  } else {  // once rank 0 has said it, launchers end the others
    std::this_thread::sleep_for(kMoment);
    fmt::print(stderr, "longseq: on {}: {}\n", host(), failure.message);
  }
  return status;
}

int run_with_mpi(const std::function<int()>& work) {
  int provided = MPI_THREAD_SINGLE;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  Failure failure;
  const auto watched = [&] {
    expect_watchdog();
    return work();
  };
  int status = attempt(watched, failure);
  if (failure.status != 0) {
    if (!all_ranks_arrive()) {
      fmt::print(stderr, "longseq: rank {} on {}: {}\n", rank, host(), failure.message);
      std::fflush(stderr);
      MPI_Abort(MPI_COMM_WORLD, failure.status);
    }
    if (rank == 0) fmt::print(stderr, "longseq: {}\n", failure.message);
  }
  MPI_Finalize();
  return status;
}

}  // namespace longseq
