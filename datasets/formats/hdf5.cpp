// A one-dimensional dataset of integers in an HDF5 file, by hyperslab. The serial driver is used, so any rank
// may read alone. A dataset may declare its vocabulary in an integer attribute `vocabulary`.
#include <fmt/format.h>
#include <hdf5.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <stdexcept>

#include "datasets/formats/formats.h"

namespace longseq {
namespace {

/// Owns an HDF5 identifier; a negative one stands for a failed call.
class Handle {
 public:
  Handle(hid_t id, herr_t (*close)(hid_t)) : id_(id), close_(close) {}
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() {
    if (id_ >= 0) close_(id_);
  }
  hid_t id() const { return id_; }
  bool failed() const { return id_ < 0; }

 private:
  hid_t id_;
  herr_t (*close_)(hid_t);
};

/// While one lives, HDF5 prints no error stacks: our own message says it in one line.
class QuietHdf5 {
 public:
  QuietHdf5() {
    H5Eget_auto2(H5E_DEFAULT, &function_, &data_);
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  }
  QuietHdf5(const QuietHdf5&) = delete;
  QuietHdf5& operator=(const QuietHdf5&) = delete;
  ~QuietHdf5() { H5Eset_auto2(H5E_DEFAULT, function_, data_); }

 private:
  H5E_auto2_t function_ = nullptr;
  void* data_ = nullptr;
};

[[noreturn]] void fail(const std::string& name, std::string_view what) {
  throw std::runtime_error(fmt::format("'{}': {}", name, what));
}

/// The dataset's `vocabulary` attribute, if it has one.
std::optional<int> declared_vocabulary(hid_t dataset, const std::string& name) {
  if (H5Aexists(dataset, "vocabulary") <= 0) return std::nullopt;
  const Handle attribute(H5Aopen(dataset, "vocabulary", H5P_DEFAULT), H5Aclose);
  const Handle type(H5Aget_type(attribute.id()), H5Tclose);
  const Handle space(H5Aget_space(attribute.id()), H5Sclose);
  std::int64_t size = 0;
  if (H5Tget_class(type.id()) != H5T_INTEGER || H5Sget_simple_extent_npoints(space.id()) != 1 ||
      H5Aread(attribute.id(), H5T_NATIVE_INT64, &size) < 0 || size < 1 || size > kAnyVocabulary) {
    fail(name, "has an attribute 'vocabulary' that is not one integer from 1 to 2147483647");
  }
  return static_cast<int>(size);
}

/// The number of tokens of a dataset of the right rank and type.
std::int64_t checked_size(hid_t dataset, const std::string& name) {
  const Handle type(H5Dget_type(dataset), H5Tclose);
  if (H5Tget_class(type.id()) != H5T_INTEGER)
    fail(name, "does not hold integers; expected a 1-D dataset of integers");
  const Handle space(H5Dget_space(dataset), H5Sclose);
  const int rank = H5Sget_simple_extent_ndims(space.id());
  if (rank != 1) fail(name, fmt::format("has {} dimensions; expected a 1-D dataset of integers", rank));
  hsize_t size = 0;
  H5Sget_simple_extent_dims(space.id(), &size, nullptr);
  if (size == 0) fail(name, "holds no tokens; a corpus needs at least one");
  return static_cast<std::int64_t>(size);
}

std::vector<std::int32_t> read_slice(hid_t dataset, Interval positions, int vocabulary,
                                     const std::string& name) {
  const QuietHdf5 quiet;
  constexpr std::int64_t kBlock = 1 << 20;  // bounds the 64-bit copy
  std::vector<std::int64_t> values(static_cast<std::size_t>(std::min(kBlock, positions.size())));
  std::vector<std::int32_t> tokens;
  tokens.reserve(static_cast<std::size_t>(positions.size()));
  for (std::int64_t begin = positions.begin; begin < positions.end; begin += kBlock) {
    const auto offset = static_cast<hsize_t>(begin);
    const auto count = static_cast<hsize_t>(std::min(kBlock, positions.end - begin));
    const Handle file_space(H5Dget_space(dataset), H5Sclose);
    const Handle memory_space(H5Screate_simple(1, &count, nullptr), H5Sclose);
    if (H5Sselect_hyperslab(file_space.id(), H5S_SELECT_SET, &offset, nullptr, &count, nullptr) < 0 ||
        H5Dread(dataset, H5T_NATIVE_INT64, memory_space.id(), file_space.id(), H5P_DEFAULT, values.data()) <
            0) {
      fail(name,
           fmt::format("tokens {} to {} cannot be read: the file is damaged or needs an HDF5 filter that is "
                       "not installed",
                       offset, offset + count));
    }
    for (hsize_t i = 0; i < count; ++i) {
      tokens.push_back(checked_token(values[i], vocabulary, begin + static_cast<std::int64_t>(i), name));
    }
  }
  return tokens;
}

}  // namespace

TokenSource open_hdf5(const std::filesystem::path& path, const std::string& detail) {
  const QuietHdf5 quiet;
  if (!std::ifstream(path)) fail(path.string(), "cannot be opened: missing or not readable");
  if (H5Fis_hdf5(path.c_str()) <= 0) fail(path.string(), "is not an HDF5 file");
  const Handle file(H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), H5Fclose);
  if (file.failed()) fail(path.string(), "is a truncated or damaged HDF5 file, or is being written");

  const std::string dataset_name = detail.empty() ? "/tokens" : detail;
  const std::string name = path.string() + ":" + dataset_name;
  const auto dataset =
      std::make_shared<const Handle>(H5Dopen2(file.id(), dataset_name.c_str(), H5P_DEFAULT), H5Dclose);
  if (dataset->failed()) {
    fail(path.string(),
         fmt::format("has no dataset '{}'; name one with PATH:hdf5:/dataset/name", dataset_name));
  }
  const std::int64_t size = checked_size(dataset->id(), name);
  const std::optional<int> vocabulary = declared_vocabulary(dataset->id(), name);
  const auto read = [dataset, name, limit = vocabulary.value_or(kAnyVocabulary)](Interval positions) {
    return read_slice(dataset->id(), positions, limit, name);
  };
  return {.name = name, .path = path, .size = size, .vocabulary = vocabulary, .read = read};
}

}  // namespace longseq
