// Looking up a row of a table of {name, ...} by its name.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <string_view>

namespace longseq {

/// The row of `table` called `name`. Throws std::invalid_argument, naming the rows there are, if there is
/// none; `what` is what a row is: "layout".
template <class Table>
const auto& row_named(const Table& table, std::string_view what, std::string_view name) {
  std::string names;
  for (const auto& row : table) {
    if (row.name == name) return row;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", row.name);
  }
  throw std::invalid_argument(fmt::format("{} is '{}'; expected one of {}", what, name, names));
}

}  // namespace longseq
