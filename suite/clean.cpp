#include "suite/clean.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <fstream>
#include <sstream>

#include "suite/gather.h"

namespace longseq {
namespace {

constexpr double kCeilingTolerance = 0.10;

/// Of threads of others: the kernel counts in ticks, and daemons never sleep wholly.
double tolerated(int cores) {
  return 0.1 + 0.05 * cores;
}

double own_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

/// Seconds that these hardware threads were busy since boot, of /proc/stat: user, nice, system, irq, softirq
/// and steal, leaving out idle, iowait, and guest, which user holds already.
double busy_seconds(const std::vector<int>& hardware_threads) {
  std::ifstream file("/proc/stat");
  double ticks = 0;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string name;
    double user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, steal = 0;
    words >> name;
    if (!name.starts_with("cpu") || name == "cpu") continue;
    if (!std::binary_search(hardware_threads.begin(), hardware_threads.end(), std::stoi(name.substr(3))))
      continue;
    words >> user >> nice >> system >> idle >> iowait >> irq >> softirq >> steal;
    ticks += user + nice + system + irq + softirq + steal;
  }
  return ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
}

}  // namespace

CpuTime read_cpu_time(MPI_Comm world, const Placement& placement) {
  const NodeComm node(world);
  CpuTime time;
  const double own = own_seconds();
  MPI_Allreduce(&own, &time.own, 1, MPI_DOUBLE, MPI_SUM, node.get());
  time.wall = MPI_Wtime();
  time.busy = busy_seconds(placement.node_hardware_threads);
  time.known = time.busy > 0;
  return time;
}

std::optional<double> busy_by_others(const CpuTime& before, const CpuTime& after) {
  const double passed = after.wall - before.wall;
  if (!before.known || !after.known || passed <= 0) return std::nullopt;
  return std::max(0.0, ((after.busy - before.busy) - (after.own - before.own)) / passed);
}

std::vector<std::string> check_clean(const Conditions& c) {
  std::vector<std::string> reasons;
  const int threads = c.ranks_on_node * c.threads_per_rank;
  if (threads > c.node_cores) {
    reasons.push_back(fmt::format("{} ranks × {} threads on {} cores of a node", c.ranks_on_node,
                                  c.threads_per_rank, c.node_cores));
  }
  if (!c.exclusive) reasons.push_back("ranks are not bound: several may use the same cores");
  const double left_over = std::max(0, c.node_cores - threads);
  if (c.busy_by_others && *c.busy_by_others > left_over + tolerated(c.node_cores)) {
    reasons.push_back(fmt::format("others kept {:.2f} cores busy, {} of {} cores were left over",
                                  *c.busy_by_others, left_over, c.node_cores));
  }
  for (const CeilingPair& ceiling : c.ceilings) {
    const double change = ceiling.after / ceiling.before - 1;
    if (!(std::abs(change) <= kCeilingTolerance)) {
      reasons.push_back(fmt::format("{} changed by {:+.0f} % during the job", ceiling.name, 100 * change));
    }
  }
  return reasons;
}

std::vector<std::string> gather_reasons(MPI_Comm world, std::span<const std::string> reasons) {
  std::string mine;
  for (const std::string& reason : reasons) mine += reason + '\n';
  std::vector<std::string> all;
  for (const std::string& of_rank : all_gather(world, mine)) {
    std::istringstream lines(of_rank);
    for (std::string line; std::getline(lines, line);) {
      if (std::find(all.begin(), all.end(), line) == all.end()) all.push_back(line);
    }
  }
  return all;
}

}  // namespace longseq
