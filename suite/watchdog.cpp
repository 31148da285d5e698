#include "suite/watchdog.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string_view>

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

}  // namespace

double watchdog_seconds() {
  static const double kSeconds = seconds_of_environment();
  return kSeconds;
}

void wait_watched(MPI_Comm comm, std::span<MPI_Request> requests, std::span<MPI_Status> statuses,
                  const std::function<std::string()>& for_whom) {
  using Clock = std::chrono::steady_clock;
  const double limit = watchdog_seconds();
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
  MPI_Request request = MPI_REQUEST_NULL;
  MPI_Status status;
  MPI_Ibarrier(comm, &request);
  wait_watched(comm, {&request, 1}, {&status, 1}, [] { return "all ranks to begin a repetition"; });
}

void maximum_watched(MPI_Comm comm, std::span<const double> own, std::span<double> most) {
  MPI_Request request = MPI_REQUEST_NULL;
  MPI_Status status;
  MPI_Iallreduce(own.data(), most.data(), static_cast<int>(own.size()), MPI_DOUBLE, MPI_MAX, comm, &request);
  wait_watched(comm, {&request, 1}, {&status, 1}, [] { return "all ranks to end a repetition"; });
}

}  // namespace longseq
