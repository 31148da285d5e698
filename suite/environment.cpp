#include "suite/environment.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <fstream>

#include "kernels/threads/topology.h"
#include "suite/code_version.h"
#include "suite/gather.h"
#include "suite/memory.h"
#include "suite/placement.h"

extern char** environ;

namespace longseq {
namespace {

using namespace std::string_view_literals;

std::string mpi_library() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> text{};
  int length = 0;
  MPI_Get_library_version(text.data(), &length);
  const std::string_view all(text.data());  // some libraries count the ending zero, some end in a newline
  return std::string(all.substr(0, all.find_last_not_of(" \n") + 1));
}

std::string operating_system() {
  utsname name{};
  uname(&name);
  return fmt::format("{} {} {}", name.sysname, name.release, name.machine);
}

std::string hostname() {
  utsname name{};
  uname(&name);
  return name.nodename;
}

std::string cpu_model() {
  const hwloc_obj_t package = hwloc_get_obj_by_type(topology(), HWLOC_OBJ_PACKAGE, 0);
  const char* model = package ? hwloc_obj_get_info_by_name(package, "CPUModel") : nullptr;
  if (!model) model = hwloc_obj_get_info_by_name(hwloc_get_root_obj(topology()), "CPUModel");
  return model ? model : "unknown";
}

std::string governor() {
  std::ifstream file("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
  std::string name;
  return file >> name ? name : "unknown";
}

std::int64_t count(hwloc_obj_type_t type) {
  return hwloc_get_nbobjs_by_type(topology(), type);
}

std::int64_t cache_bytes(hwloc_obj_type_t type) {
  const hwloc_obj_t cache = hwloc_get_obj_by_type(topology(), type, 0);
  return cache ? static_cast<std::int64_t>(cache->attr->cache.size) : 0;
}

/// Variables of batch systems, but nothing that grants access.
std::vector<std::pair<std::string, std::string>> scheduler_variables() {
  std::vector<std::pair<std::string, std::string>> found;
  for (char** entry = environ; *entry; ++entry) {
    const std::string_view text(*entry), name = text.substr(0, text.find('='));
    const auto begins = [&](std::string_view prefix) { return name.starts_with(prefix); };
    const auto holds = [&](std::string_view part) { return name.find(part) != std::string_view::npos; };
    constexpr std::array systems{"SLURM_"sv, "PBS_"sv, "LSB_"sv, "FLUX_"sv};
    constexpr std::array secrets{"JWT"sv, "TOKEN"sv, "COOKIE"sv, "SECRET"sv, "KEY"sv, "PASS"sv};
    if (name.size() == text.size() || std::none_of(systems.begin(), systems.end(), begins)) continue;
    if (std::any_of(secrets.begin(), secrets.end(), holds)) continue;
    found.emplace_back(name, text.substr(name.size() + 1));
  }
  std::sort(found.begin(), found.end());
  return found;
}

void read_code(Environment& e) {
  const CodeVersion version = code_version();
  e.code_version = fmt::format("{} ({})", version.release, version.commit);
  e.code_dirty = version.dirty;
  e.compiler = version.compiler;
  e.compiler_flags = version.compiler_flags;
  e.mpi_library = mpi_library();
}

void read_node(Environment& e) {
  e.operating_system = operating_system();
  e.cpu_model = cpu_model();
  e.governor = governor();
  e.sockets = count(HWLOC_OBJ_PACKAGE);
  e.cores = count(HWLOC_OBJ_CORE);
  e.hardware_threads = count(HWLOC_OBJ_PU);
  e.numa_nodes = count(HWLOC_OBJ_NUMANODE);
  e.l1d_bytes = cache_bytes(HWLOC_OBJ_L1CACHE);
  e.l2_bytes = cache_bytes(HWLOC_OBJ_L2CACHE);
  e.l3_bytes = cache_bytes(HWLOC_OBJ_L3CACHE);
  e.memory_bytes = node_memory_bytes();
  e.memory_available_bytes = available_memory_bytes();
}

void read_launch(Environment& e, MPI_Comm world) {
  const Placement placement = find_placement(world);
  e.started = utc_now();
  e.hostnames = all_gather(world, hostname());
  e.bindings = all_gather(world, placement.binding);
  e.ranks = std::ssize(e.hostnames);
  e.nodes = placement.nodes;
  e.memory_available.resize(static_cast<std::size_t>(e.ranks));
  MPI_Allgather(&e.memory_available_bytes, 1, MPI_INT64_T, e.memory_available.data(), 1, MPI_INT64_T, world);
  e.scheduler = scheduler_variables();
}

}  // namespace

Environment read_environment(MPI_Comm world) {
  Environment e;
  read_code(e);
  read_node(e);
  read_launch(e, world);
  return e;
}

std::vector<std::pair<std::string, Scalar>> fields(const Environment& e) {
  std::vector<std::pair<std::string, Scalar>> all = {
      {"code_version", e.code_version},
      {"code_dirty", e.code_dirty},
      {"compiler", e.compiler},
      {"compiler_flags", e.compiler_flags},
      {"mpi_library", e.mpi_library},
      {"simd_target", e.simd_target},
      {"operating_system", e.operating_system},
      {"cpu_model", e.cpu_model},
      {"governor", e.governor},
      {"sockets", e.sockets},
      {"cores", e.cores},
      {"hardware_threads", e.hardware_threads},
      {"numa_nodes", e.numa_nodes},
      {"l1d_bytes", e.l1d_bytes},
      {"l2_bytes", e.l2_bytes},
      {"l3_bytes", e.l3_bytes},
      {"memory_bytes", e.memory_bytes},
      {"memory_available_bytes", e.memory_available_bytes},
      {"started", e.started},
      {"ranks", e.ranks},
      {"nodes", e.nodes},
  };
  for (const auto& [name, value] : e.scheduler) all.emplace_back(name, value);
  return all;
}

std::string utc_now() {
  const auto now = std::chrono::time_point_cast<std::chrono::seconds>(std::chrono::system_clock::now());
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::chrono::system_clock::to_time_t(now)));
}

}  // namespace longseq
