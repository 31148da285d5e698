#include "suite/memory.h"

#include <malloc.h>

#include <algorithm>
#include <fstream>
#include <stdexcept>
#include <string>

namespace longseq {
namespace {

namespace fs = std::filesystem;

/// The number after `key` on its line of a "key number" file.
std::optional<std::int64_t> number_of(const fs::path& file, const std::string& key) {
  std::ifstream stream(file);
  for (std::string word; stream >> word;) {
    std::int64_t value = 0;
    if (word == key && stream >> value) return value;
  }
  return std::nullopt;
}

/// A file that holds one number; nothing if there is none, or a word ("max").
std::optional<std::int64_t> number_in(const fs::path& file) {
  std::ifstream stream(file);
  std::int64_t value = 0;
  if (stream >> value) return value;
  return std::nullopt;
}

std::int64_t meminfo(const std::string& key) {
  const auto kibibytes = number_of("/proc/meminfo", key);
  if (!kibibytes) throw std::runtime_error("/proc/meminfo: no " + key + "; expected the node's memory there");
  return *kibibytes * 1024;
}

std::optional<std::int64_t> room_at(const fs::path& group) {
  auto limit = number_in(group / "memory.max"), used = number_in(group / "memory.current");
  auto cache = number_of(group / "memory.stat", "inactive_file");
  if (!used) {
    limit = number_in(group / "memory.limit_in_bytes");
    used = number_in(group / "memory.usage_in_bytes");
    cache = number_of(group / "memory.stat", "total_inactive_file");
  }
  if (!limit || !used) return std::nullopt;
  return std::max<std::int64_t>(0, *limit - (*used - cache.value_or(0)));
}

}  // namespace

std::int64_t node_memory_bytes() {
  return meminfo("MemTotal:");
}

std::int64_t available_memory_bytes() {
  std::int64_t available = meminfo("MemAvailable:");
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {  // "0::/path", or in version 1 "7:memory:/path"
    const auto first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controller = line.substr(first + 1, second - first - 1);
    if (!controller.empty() && controller != "memory") continue;
    const fs::path root = controller.empty() ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory";
    const auto room = control_group_room(root, fs::path(line.substr(second + 1)).relative_path());
    available = std::min(available, room.value_or(available));
  }
  return available;
}

std::int64_t reset_peak_memory() {
  malloc_trim(0);
  std::ofstream("/proc/self/clear_refs") << 5;  // proc(5): resets VmHWM
  return number_of("/proc/self/status", "VmRSS:").value_or(0) * 1024;
}

std::int64_t peak_memory_bytes() {
  return number_of("/proc/self/status", "VmHWM:").value_or(0) * 1024;
}

std::optional<std::int64_t> control_group_room(const fs::path& root, const fs::path& group) {
  std::optional<std::int64_t> least = room_at(root);
  fs::path here = root;
  for (const fs::path& part : group) {
    here /= part;
    if (const auto room = room_at(here)) least = std::min(*room, least.value_or(*room));
  }
  return least;
}

}  // namespace longseq
