#include "drivers/execution/datatype.h"

#include <fmt/format.h>

#include <limits>
#include <stdexcept>
#include <vector>

namespace longseq {
namespace {

int as_count(std::int64_t value) {
  if (value > std::numeric_limits<int>::max()) {
    throw std::invalid_argument(
        fmt::format("a message has {} rows; expected at most 2^31 - 1: use more ranks", value));
  }
  return static_cast<int>(value);
}

}  // namespace

Datatype contiguous(std::int64_t count, MPI_Datatype element) {
  MPI_Datatype type = MPI_DATATYPE_NULL;
  MPI_Type_contiguous(as_count(count), element, &type);
  MPI_Type_commit(&type);
  return Datatype(type);
}

Datatype rows_of_planes(RowsView rows, const PlaneSelection& selection) {
  const Datatype row = contiguous(selection.row_bytes, MPI_BYTE);
  // Neighbours are one block, and a type that needs no other extent keeps its own: Open MPI copies what it
  // does not see to be one block piece by piece, at two thirds of the rate.
  std::vector<int> lengths;
  std::vector<MPI_Aint> places;
  std::int64_t end = -1;  // of the last block
  const auto add = [&](std::int64_t first, std::int64_t count) {
    if (first == end && lengths.back() + count <= std::numeric_limits<int>::max()) {
      lengths.back() += static_cast<int>(count);
    } else {
      lengths.push_back(as_count(count));
      places.push_back(static_cast<MPI_Aint>(first * selection.row_bytes));
    }
    end = first + count;
  };
  for (std::int64_t plane = selection.chosen.begin; plane < selection.chosen.end; ++plane) {
    for (const Interval& interval : rows) add(plane * selection.rows + interval.begin, interval.size());
  }
  MPI_Datatype entry = MPI_DATATYPE_NULL;
  MPI_Type_create_hindexed(static_cast<int>(lengths.size()), lengths.data(), places.data(), row.get(),
                           &entry);
  Datatype entry_owner(entry);
  if (selection.entries == 1) {
    MPI_Type_commit(&entry);
    return entry_owner;
  }
  MPI_Datatype spaced = MPI_DATATYPE_NULL;
  MPI_Type_create_resized(
      entry, 0, static_cast<MPI_Aint>(selection.planes * selection.rows * selection.row_bytes), &spaced);
  const Datatype spaced_owner(spaced);
  return contiguous(selection.entries, spaced);
}

std::int64_t payload_bytes(MPI_Datatype type) {
  MPI_Count bytes = 0;
  MPI_Type_size_x(type, &bytes);
  return bytes;
}

}  // namespace longseq
