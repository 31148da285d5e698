// How much memory this node has, and how much of it is still free for us.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

namespace longseq {

/// Bytes of main memory. Throws std::runtime_error if /proc/meminfo cannot be read.
std::int64_t node_memory_bytes();

/// Bytes that processes here could still allocate without swapping: the kernel's estimate, or what the
/// control group (container, batch job) has left where that is less. Throws as above.
std::int64_t available_memory_bytes();

/// From now on peak_memory_bytes() counts anew, where the kernel allows it. Gives the process's resident
/// size, what is free in its heap returned to the system.
std::int64_t reset_peak_memory();

/// The largest resident size of the process since then.
std::int64_t peak_memory_bytes();

/// What the control group at `root`/`group` and those around it have left, in bytes, page cache counted as
/// free; nothing where no limit is set. Understands versions 1 and 2.
std::optional<std::int64_t> control_group_room(const std::filesystem::path& root,
                                               const std::filesystem::path& group);

}  // namespace longseq
