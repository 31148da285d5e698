// MPI objects with an owner, and datatypes for rows of a buffer: messages of any size, sent from where the
// rows lie.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <utility>

#include "drivers/sharding/layout.h"

namespace longseq {

class Datatype {
 public:
  Datatype() = default;
  explicit Datatype(MPI_Datatype type) : type_(type) {}
  Datatype(Datatype&& other) noexcept : type_(std::exchange(other.type_, MPI_DATATYPE_NULL)) {}
  Datatype& operator=(Datatype&& other) noexcept {
    std::swap(type_, other.type_);
    return *this;
  }
  ~Datatype() {
    if (type_ != MPI_DATATYPE_NULL) MPI_Type_free(&type_);
  }
  MPI_Datatype get() const { return type_; }

 private:
  MPI_Datatype type_ = MPI_DATATYPE_NULL;
};

/// A persistent request.
class Request {
 public:
  explicit Request(MPI_Request request) : request_(request) {}
  Request(Request&& other) noexcept : request_(std::exchange(other.request_, MPI_REQUEST_NULL)) {}
  Request& operator=(Request&&) = delete;
  ~Request() {
    if (request_ != MPI_REQUEST_NULL) MPI_Request_free(&request_);
  }
  MPI_Request get() const { return request_; }

 private:
  MPI_Request request_;
};

/// `count` elements that lie one after the other.
Datatype contiguous(std::int64_t count, MPI_Datatype element);

/// Some planes of a dense array (entries, planes, rows, row_bytes bytes).
struct PlaneSelection {
  std::int64_t entries;
  std::int64_t planes;
  Interval chosen;  // planes, of each entry
  std::int64_t rows;
  std::int64_t row_bytes;
};

/// The rows `rows` of each chosen plane. Counts are rows, not elements, so that 2^31 − 1 is no limit for a
/// message.
Datatype rows_of_planes(RowsView rows, const PlaneSelection& selection);

/// Bytes of payload that one item of the type carries.
std::int64_t payload_bytes(MPI_Datatype type);

}  // namespace longseq
