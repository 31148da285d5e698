#include "results/record_agreement.h"

#include <fmt/format.h>

#include <cctype>
#include <numeric>
#include <set>
#include <stdexcept>

#include "results/agreement.h"
#include "results/record_packing.h"

namespace longseq {
namespace {

template <class T>
void broadcast(MPI_Comm comm, T& value) {
  int rank = 0;
  MPI_Comm_rank(comm, &rank);
  Packer packer;
  if (rank == 0) packer(value);
  auto size = static_cast<std::int64_t>(packer.bytes.size());
  MPI_Bcast(&size, 1, MPI_INT64_T, 0, comm);
  packer.bytes.resize(static_cast<std::size_t>(size));
  MPI_Bcast(packer.bytes.data(), static_cast<int>(size), MPI_CHAR, 0, comm);
  if (rank != 0) Unpacker{packer.bytes}(value);
}

Values empty_like(const Values& values) {
  return std::visit([](const auto& vector) -> Values { return std::decay_t<decltype(vector)>{}; }, values);
}

/// The group without its arrays' values, which stay where they are.
Group description_of(const Group& group) {
  Group description{group.attributes, group.axes, {}};
  for (const Array& array : group.arrays) {
    description.arrays.push_back(
        {array.name, array.dims, empty_like(array.values), array.units, array.long_name, array.distributed});
  }
  return description;
}

bool uses_axis(const Group& group, const std::string& name) {
  for (const Array& array : group.arrays) {
    for (const std::string& dim : array.dims) {
      if (dim == name) return true;
    }
  }
  return false;
}

void add_rank_axes(Group& group, int ranks) {
  const std::pair<const char*, const char*> axes[] = {{"rank", "MPI rank"},
                                                      {"peer", "MPI rank at the other end"}};
  for (const auto& [name, long_name] : axes) {
    if (!uses_axis(group, name) || find_axis(group, name)) continue;
    std::vector<std::int64_t> indices(static_cast<std::size_t>(ranks));
    std::iota(indices.begin(), indices.end(), 0);
    group.axes.push_back({name, std::move(indices), "1", long_name});
  }
}

void check_name(std::set<std::string>& taken, const std::string& name, const std::string& where) {
  bool good = !name.empty() && std::isalpha(static_cast<unsigned char>(name[0]));
  for (const char character : name) {
    good = good && (std::isalnum(static_cast<unsigned char>(character)) || character == '_');
  }
  if (!good) {
    throw std::invalid_argument(fmt::format(
        "name '{}' in {}: expected [A-Za-z][A-Za-z0-9_]*; hint: write _ for - and .", name, where));
  }
  if (!taken.insert(name).second) {
    throw std::invalid_argument(
        fmt::format("name '{}' in {} is given twice; hint: every name once", name, where));
  }
}

void check_names(const Group& group, const std::string& where) {
  std::set<std::string> attributes;
  std::set<std::string> objects;
  for (const Attribute& attribute : group.attributes) check_name(attributes, attribute.name, where);
  for (const Axis& axis : group.axes) check_name(objects, axis.name, where);
  for (const Array& array : group.arrays) check_name(objects, array.name, where);
}

/// How many values this rank must hold of the array.
std::int64_t expected_size(const Group& group, const Array& array, int ranks, const std::string& where) {
  std::int64_t size = 1;
  bool over_rank = false;
  for (const std::string& dim : array.dims) {
    const Axis* axis = find_axis(group, dim);
    if (axis == nullptr) {
      throw std::invalid_argument(fmt::format(
          "array '{}' in {} uses the axis '{}', which is not there; hint: add it", array.name, where, dim));
    }
    const bool split = array.distributed && dim == "rank";
    if (split && size_of(axis->coordinate) != ranks) {
      throw std::invalid_argument(
          fmt::format("axis 'rank' in {} has {} values, expected one for each of {} ranks", where,
                      size_of(axis->coordinate), ranks));
    }
    over_rank = over_rank || split;
    size *= split ? 1 : size_of(axis->coordinate);
  }
  if (array.distributed && !over_rank) {
    throw std::invalid_argument(
        fmt::format("array '{}' in {} is distributed but has no axis 'rank'", array.name, where));
  }
  return size;
}

/// Puts this rank's values where the group describes them, if they are as described.
void take_values(Group& group, const Group& mine, int rank, int ranks, const std::string& where) {
  if (mine.arrays.size() != group.arrays.size()) {
    throw std::invalid_argument(
        fmt::format("rank {} gives {} arrays for {}, rank 0 gives {}; expected the same", rank,
                    mine.arrays.size(), where, group.arrays.size()));
  }
  for (std::size_t i = 0; i < group.arrays.size(); ++i) {
    Array& array = group.arrays[i];
    const Array& given = mine.arrays[i];
    const std::int64_t expected = expected_size(group, array, ranks, where);
    const bool same_type = !array.distributed || given.values.index() == array.values.index();
    if (given.name != array.name || given.distributed != array.distributed || !same_type) {
      throw std::invalid_argument(fmt::format(
          "array {} in {} is '{}' on rank {} and '{}' on rank 0; expected the same name, type and "
          "distribution",
          i, where, given.name, rank, array.name));
    }
    if (!array.distributed && rank != 0) continue;
    if (size_of(given.values) != expected) {
      throw std::invalid_argument(
          fmt::format("array '{}' in {} has {} values on rank {}, expected {} by its axes", array.name, where,
                      size_of(given.values), rank, expected));
    }
    array.values = given.values;
  }
}

}  // namespace

std::vector<Column> agreed_columns(MPI_Comm comm, const std::vector<Column>& mine) {
  std::vector<Column> columns = mine;
  broadcast(comm, columns);
  return columns;
}

Group agreed_group(MPI_Comm comm, const Group& mine, const std::string& where) {
  int rank = 0;
  int ranks = 1;
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &ranks);
  Group group = description_of(mine);
  broadcast(comm, group);
  on_all_ranks(comm, [&] {
    add_rank_axes(group, ranks);
    check_names(group, where);
    take_values(group, mine, rank, ranks, where);
  });
  return group;
}

}  // namespace longseq
