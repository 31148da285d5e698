#include "suite/watchdog.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string_view>
#include <vector>

namespace longseq {
namespace {

constexpr double kDefaultSeconds = 300;
constexpr int kStatus = 3;
constexpr int kTestsPerLook = 64;  // at the clock

double seconds_of_environment() {
  const char* text = std::getenv("LONGSEQ_WATCHDOG");
  if (text == nullptr) return kDefaultSeconds;
  const std::string_view value(text);
  double seconds = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), seconds);
  if (error != std::errc() || end != value.data() + value.size() || !(seconds >= 0)) {
    throw std::invalid_argument(fmt::format(
        "LONGSEQ_WATCHDOG is '{}'; expected seconds that a rank waits at most, 0 for no limit", value));
  }
  return seconds;
}

std::string host_name() {
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  return name.data();
}

[[noreturn]] void give_up(MPI_Comm comm, double seconds, const std::string& for_whom) {
  int rank = 0;
  MPI_Comm_rank(comm, &rank);
  fmt::print(stderr,
             "longseq: rank {} ({}) waited {:.3g} s for {}; ending the job; hint: LONGSEQ_WATCHDOG sets the "
             "seconds, 0 no limit\n",
             rank, host_name(), seconds, for_whom);
  std::fflush(stderr);
  MPI_Abort(comm, kStatus);
  std::_Exit(kStatus);
}

constexpr int kArrivalTag = 23;
constexpr double kPatienceWithRank0 = 2;

/// Every rank says to rank 0 that it is here.
void arrive(MPI_Comm comm, const char* what) {
  int rank = 0, ranks = 1;
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &ranks);
  std::vector<MPI_Request> requests(static_cast<std::size_t>(rank == 0 ? ranks - 1 : 1), MPI_REQUEST_NULL);
  std::vector<MPI_Status> statuses(requests.size());
  if (rank == 0) {
    for (int other = 1; other < ranks; ++other)
      MPI_Irecv(nullptr, 0, MPI_BYTE, other, kArrivalTag, comm,
                &requests[static_cast<std::size_t>(other - 1)]);
  } else {
    MPI_Isend(nullptr, 0, MPI_BYTE, 0, kArrivalTag, comm, requests.data());
  }
  const auto missing = [&] {
    if (rank != 0) return fmt::format("rank 0 to {}", what);
    std::vector<int> silent;
    for (int other = 1; other < ranks; ++other) {
      int done = 0;
      MPI_Request_get_status(requests[static_cast<std::size_t>(other - 1)], &done, MPI_STATUS_IGNORE);
      if (done == 0) silent.push_back(other);
    }
    return fmt::format("rank {} to {}", fmt::join(silent, ", "), what);
  };
  wait_watched(comm, requests, statuses, missing, rank == 0 ? 1 : kPatienceWithRank0);
}

}  // namespace

double watchdog_seconds() {
  static const double kSeconds = seconds_of_environment();
  return kSeconds;
}

void wait_watched(MPI_Comm comm, std::span<MPI_Request> requests, std::span<MPI_Status> statuses,
                  const std::function<std::string()>& for_whom, double patience) {
  using Clock = std::chrono::steady_clock;
  const double limit = patience * watchdog_seconds();
  const auto start = Clock::now();
  for (int tests = 1;; ++tests) {
    int done = 0;
    MPI_Testall(static_cast<int>(requests.size()), requests.data(), &done, statuses.data());
    if (done != 0) return;
    if (limit <= 0 || tests % kTestsPerLook != 0) continue;
    const double waited = std::chrono::duration<double>(Clock::now() - start).count();
    if (waited > limit) give_up(comm, waited, for_whom());
  }
}

void barrier_watched(MPI_Comm comm) {
  constexpr const char* kWhat = "begin a repetition";
  arrive(comm, kWhat);
  MPI_Request request = MPI_REQUEST_NULL;
  MPI_Status status;
  MPI_Ibarrier(comm, &request);
  wait_watched(
      comm, {&request, 1}, {&status, 1}, [&] { return fmt::format("rank 0 to {}", kWhat); },
      kPatienceWithRank0);
}

void maximum_watched(MPI_Comm comm, std::span<const double> own, std::span<double> most, const char* what) {
  arrive(comm, what);
  MPI_Request request = MPI_REQUEST_NULL;
  MPI_Status status;
  MPI_Iallreduce(own.data(), most.data(), static_cast<int>(own.size()), MPI_DOUBLE, MPI_MAX, comm, &request);
  wait_watched(
      comm, {&request, 1}, {&status, 1}, [&] { return fmt::format("rank 0 to {}", what); },
      kPatienceWithRank0);
}

}  // namespace longseq
