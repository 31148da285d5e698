// The nearest right name to a wrong one.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace longseq {

/// The number of single-letter insertions, deletions and replacements that turn one into the other.
int edit_distance(std::string_view a, std::string_view b);

/// The candidate nearest to `name`, the first of equals, one that begins with `name` before all others; ""
/// without candidates.
std::string nearest(std::string_view name, std::span<const std::string> candidates);

/// The names joined as "a, b or c".
std::string any_of(std::span<const std::string> names);

}  // namespace longseq
