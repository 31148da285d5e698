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

Datatype rows_of_planes(const Rows& rows, std::int64_t planes, std::int64_t total_rows,
                        std::int64_t row_bytes) {
  const Datatype row = contiguous(row_bytes, MPI_BYTE);
  std::vector<int> lengths, offsets;
  for (const Interval& interval : rows) {
    lengths.push_back(as_count(interval.size()));
    offsets.push_back(as_count(interval.begin));
  }
  MPI_Datatype plane = MPI_DATATYPE_NULL;
  MPI_Type_indexed(static_cast<int>(lengths.size()), lengths.data(), offsets.data(), row.get(), &plane);
  const Datatype plane_owner(plane);
  MPI_Datatype spaced = MPI_DATATYPE_NULL;
  MPI_Type_create_resized(plane, 0, static_cast<MPI_Aint>(total_rows * row_bytes), &spaced);
  const Datatype spaced_owner(spaced);
  return contiguous(planes, spaced);
}

std::int64_t payload_bytes(MPI_Datatype type) {
  MPI_Count bytes = 0;
  MPI_Type_size_x(type, &bytes);
  return bytes;
}

}  // namespace longseq
