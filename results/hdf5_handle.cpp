#include "results/hdf5_handle.h"

#include <fmt/format.h>

#include <stdexcept>
#include <string>

namespace longseq::hdf5 {
namespace {

std::string innermost_cause() {
  std::string cause = "no further cause given";
  H5Ewalk2(
      H5E_DEFAULT, H5E_WALK_UPWARD,
      [](unsigned depth, const H5E_error2_t* error, void* text) -> herr_t {
        if (depth == 0 && error->desc != nullptr) *static_cast<std::string*>(text) = error->desc;
        return 0;
      },
      &cause);
  for (char& character : cause) {
    if (character == '\n') character = ' ';
  }
  return cause;
}

herr_t close_any(hid_t id) {
  switch (H5Iget_type(id)) {
    case H5I_FILE:
      return H5Fclose(id);
    case H5I_GROUP:
      return H5Gclose(id);
    case H5I_DATASET:
      return H5Dclose(id);
    case H5I_DATATYPE:
      return H5Tclose(id);
    case H5I_DATASPACE:
      return H5Sclose(id);
    case H5I_ATTR:
      return H5Aclose(id);
    default:
      return H5Pclose(id);
  }
}

}  // namespace

Handle::Handle(hid_t id, std::string_view attempted) : id_(check(id, attempted)) {}

Handle::~Handle() {
  if (id_ >= 0) close_any(id_);
}

void Handle::close(std::string_view attempted) {
  const hid_t id = std::exchange(id_, H5I_INVALID_HID);
  if (id >= 0) check(close_any(id), attempted);
}

long long check(long long status, std::string_view attempted) {
  if (status < 0)
    throw std::runtime_error(fmt::format("HDF5 could not {}: {}", attempted, innermost_cause()));
  return status;
}

void silence_errors() {
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

}  // namespace longseq::hdf5
