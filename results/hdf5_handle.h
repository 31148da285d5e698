// Owns one HDF5 identifier of any kind, and turns HDF5's negative returns into exceptions.
#pragma once

#include <hdf5.h>

#include <string_view>
#include <utility>

namespace longseq::hdf5 {

/// Closes its identifier with the function that fits its kind. Closing a file opened in parallel is
/// collective: a rank must not unwind past one alone.
class Handle {
 public:
  Handle() = default;
  /// Takes what an H5?create or H5?open returned. Throws std::runtime_error "HDF5 could not `attempted`:
  /// cause" if that is negative.
  Handle(hid_t id, std::string_view attempted);
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, H5I_INVALID_HID)) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(id_, other.id_);
    return *this;
  }
  ~Handle();

  operator hid_t() const { return id_; }

  /// Closes now, so that a failure (a full disk) is seen: throws std::runtime_error.
  void close(std::string_view attempted);

 private:
  hid_t id_ = H5I_INVALID_HID;
};

/// Returns the status, or throws std::runtime_error "HDF5 could not `attempted`: cause" if it is negative.
long long check(long long status, std::string_view attempted);

/// Stops HDF5 from printing its error stack; check() puts its innermost cause into the exception instead.
void silence_errors();

}  // namespace longseq::hdf5
