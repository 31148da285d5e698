#include "suite/watchdog.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <vector>

namespace longseq {
namespace {

constexpr double kDefaultSeconds = 600;
constexpr double kMostSeconds = 1e9;
constexpr double kLongWork = 10;
constexpr int kStatus = 3;
constexpr int kTestsPerLook = 64;  // at the clock

/// None if the environment says something that is no such number.
std::optional<double> seconds_of_environment() {
  const char* text = std::getenv("LONGSEQ_WATCHDOG");
  if (text == nullptr) return kDefaultSeconds;
  const std::string_view value(text);
  double seconds = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), seconds);
  const bool whole = error == std::errc() && end == value.data() + value.size();
  if (!whole || !(seconds >= 0 && seconds <= kMostSeconds)) return std::nullopt;
  return seconds;
}

double lateness = 1;  // times the usual, that ranks may come

std::string host_name() {
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  return name.data();
}

[[noreturn]] void give_up(MPI_Comm comm, double seconds, const std::string& for_whom) {
  int rank = 0;
  MPI_Comm_rank(comm, &rank);
  fmt::print(stderr,
             "longseq: rank {} ({}) waited {:.3g} s for {}; ending the job; hint: LONGSEQ_WATCHDOG={:.3g} "
             "ends it within that time, 0 never\n",
             rank, host_name(), seconds, for_whom, watchdog_seconds());
  std::fflush(stderr);
  MPI_Abort(comm, kStatus);
  std::_Exit(kStatus);
}

constexpr int kArrivalTag = 23;

enum class Toward { rank0, others };

/// An empty message from every other rank to rank 0, or back.
void signal_watched(MPI_Comm comm, Toward to, const std::string& what) {
  int rank = 0, ranks = 1;
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &ranks);
  std::vector<MPI_Request> requests(static_cast<std::size_t>(rank == 0 ? ranks - 1 : 1));
  std::vector<MPI_Status> statuses(requests.size());
  const auto peer = [&](std::size_t i) { return rank == 0 ? static_cast<int>(i) + 1 : 0; };
  for (std::size_t i = 0; i < requests.size(); ++i) {
    if ((rank == 0) == (to == Toward::rank0)) {
      MPI_Irecv(nullptr, 0, MPI_BYTE, peer(i), kArrivalTag, comm, &requests[i]);
    } else {
      MPI_Isend(nullptr, 0, MPI_BYTE, peer(i), kArrivalTag, comm, &requests[i]);
    }
  }
  const auto missing = [&] {
    std::vector<int> silent;
    for (std::size_t i = 0; i < requests.size(); ++i) {
      int done = 0;
      MPI_Request_get_status(requests[i], &done, MPI_STATUS_IGNORE);
      if (done == 0) silent.push_back(peer(i));
    }
    return fmt::format("rank {} to {}", fmt::join(silent, ", "), what);
  };
  wait_watched(comm, requests, statuses, missing, lateness * (rank == 0 ? kPatience : kMorePatience));
}

/// All have arrived; a rank has stopped since.
std::string since_arrival(MPI_Comm comm, const std::string& what) {
  int rank = 0;
  MPI_Comm_rank(comm, &rank);
  return rank == 0 ? fmt::format("one that was about to {}", what) : fmt::format("rank 0 to {}", what);
}

/// The call that blocks, for the signal's handler.
struct Blocked {
  int depth = 0;
  const char* name = "";
  double limit = 0;
};
Blocked blocked;

void start_timer(double seconds) {
  itimerval timer{};
  timer.it_value.tv_sec = static_cast<time_t>(seconds);
  timer.it_value.tv_usec = static_cast<suseconds_t>((seconds - std::floor(seconds)) * 1e6);
  setitimer(ITIMER_REAL, &timer, nullptr);
}

/// MPI_Abort is none of the functions that a handler may call: should it block, the next signal ends the
/// process, and the launcher the job.
void give_up_blocked(int) {
  std::signal(SIGALRM, SIG_DFL);
  constexpr double kToAbort = 5;  // s
  start_timer(kToAbort);
  give_up(MPI_COMM_WORLD, blocked.limit, fmt::format("others in {}", blocked.name));
}

}  // namespace

void arrive_watched(MPI_Comm comm, const std::string& what) {
  signal_watched(comm, Toward::rank0, what);
  // Most who wait do so for the last to come, and may be stopped meanwhile.
  signal_watched(comm, Toward::others, what);
  signal_watched(comm, Toward::rank0, what);
}

WatchedCall::WatchedCall(const char* name, double times) {
  if (blocked.depth++ > 0) return;
  const double limit = std::max(times, lateness) * watchdog_seconds();
  if (limit <= 0) return;
  blocked.name = name;
  blocked.limit = limit;
  struct sigaction action {};
  action.sa_handler = give_up_blocked;
  action.sa_flags = SA_NODEFER | SA_RESTART;
  sigaction(SIGALRM, &action, nullptr);
  start_timer(limit);
}

WatchedCall::~WatchedCall() {
  if (--blocked.depth == 0) start_timer(0);
}

double watchdog_seconds() noexcept {
  static const double kSeconds = seconds_of_environment().value_or(0);
  return kSeconds;
}

void expect_watchdog() {
  if (seconds_of_environment()) return;
  throw std::invalid_argument(
      fmt::format("LONGSEQ_WATCHDOG is '{}'; expected the seconds within which the job ends once a rank has "
                  "stopped, 0 for never",
                  std::getenv("LONGSEQ_WATCHDOG")));
}

LongWork::LongWork() {
  lateness *= kLongWork;
}

LongWork::~LongWork() {
  lateness /= kLongWork;
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
  const std::string what = "begin a repetition";
  arrive_watched(comm, what);
  MPI_Request request = MPI_REQUEST_NULL;
  MPI_Status status;
  MPI_Ibarrier(comm, &request);
  wait_watched(
      comm, {&request, 1}, {&status, 1}, [&] { return since_arrival(comm, what); }, lateness * kMorePatience);
}

void maximum_watched(MPI_Comm comm, std::span<const double> own, std::span<double> most,
                     const std::string& what) {
  arrive_watched(comm, what);
  MPI_Request request = MPI_REQUEST_NULL;
  MPI_Status status;
  MPI_Iallreduce(own.data(), most.data(), static_cast<int>(own.size()), MPI_DOUBLE, MPI_MAX, comm, &request);
  wait_watched(
      comm, {&request, 1}, {&status, 1}, [&] { return since_arrival(comm, what); }, lateness * kMorePatience);
}

}  // namespace longseq
