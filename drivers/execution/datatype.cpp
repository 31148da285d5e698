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

/// The type, its successors `bytes` apart.
Datatype every(MPI_Datatype type, MPI_Aint bytes) {
  MPI_Datatype spaced = MPI_DATATYPE_NULL;
  MPI_Type_create_resized(type, 0, bytes, &spaced);
  return Datatype(spaced);
}

}  // namespace

Datatype contiguous(std::int64_t count, MPI_Datatype element) {
  MPI_Datatype type = MPI_DATATYPE_NULL;
  MPI_Type_contiguous(as_count(count), element, &type);
  MPI_Type_commit(&type);
  return Datatype(type);
}

Datatype rows_of_planes(const Rows& rows, const PlaneSelection& selection) {
  const Datatype row = contiguous(selection.row_bytes, MPI_BYTE);
  std::vector<int> lengths, offsets;
  for (const Interval& interval : rows) {
    lengths.push_back(as_count(interval.size()));
    offsets.push_back(as_count(interval.begin));
  }
  MPI_Datatype plane = MPI_DATATYPE_NULL;
  MPI_Type_indexed(static_cast<int>(lengths.size()), lengths.data(), offsets.data(), row.get(), &plane);
  const Datatype plane_owner(plane);
  const MPI_Aint plane_bytes = static_cast<MPI_Aint>(selection.rows * selection.row_bytes);
  const Datatype spaced = every(plane, plane_bytes);
  if (selection.chosen.size() == selection.planes)
    return contiguous(selection.entries * selection.planes, spaced.get());
  const MPI_Aint first = static_cast<MPI_Aint>(selection.chosen.begin) * plane_bytes;
  MPI_Datatype entry = MPI_DATATYPE_NULL;
  MPI_Type_create_hindexed_block(1, as_count(selection.chosen.size()), &first, spaced.get(), &entry);
  const Datatype entry_owner(entry);
  return contiguous(selection.entries,
                    every(entry, static_cast<MPI_Aint>(selection.planes) * plane_bytes).get());
}

std::int64_t payload_bytes(MPI_Datatype type) {
  MPI_Count bytes = 0;
  MPI_Type_size_x(type, &bytes);
  return bytes;
}

}  // namespace longseq
