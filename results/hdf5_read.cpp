#include "results/hdf5_read.h"

#include <fmt/format.h>
#include <hdf5_hl.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <stdexcept>

#include "results/hdf5_objects.h"

namespace longseq::hdf5 {
namespace {

std::string text_at(const char* bytes, std::size_t width) {
  return {bytes, strnlen(bytes, width)};
}

std::vector<std::string> names_of(hid_t group, H5_index_t order) {
  std::vector<std::string> names;
  const auto collect = [](hid_t, const char* name, const H5L_info_t*, void* result) -> herr_t {
    static_cast<std::vector<std::string>*>(result)->emplace_back(name);
    return 0;
  };
  check(H5Literate(group, order, H5_ITER_INC, nullptr, collect, &names), "list a group");
  return names;
}

H5O_type_t kind_of(hid_t group, const std::string& name) {
  H5O_info_t info;
  check(H5Oget_info_by_name(group, name.c_str(), &info, H5P_DEFAULT), fmt::format("look at '{}'", name));
  return info.type;
}

/// The value of an attribute, if it is scalar and of one of the four types.
std::optional<Scalar> read_attribute(hid_t object, const std::string& name) {
  const std::string attempted = fmt::format("read the attribute '{}'", name);
  const Handle attribute(H5Aopen(object, name.c_str(), H5P_DEFAULT), attempted);
  const Handle space(H5Aget_space(attribute), attempted);
  const Handle type(H5Aget_type(attribute), attempted);
  if (H5Sget_simple_extent_type(space) != H5S_SCALAR) return std::nullopt;
  const std::size_t size = H5Tget_size(type);
  if (H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) <= 0) {
    std::string text(size, '\0');
    check(H5Aread(attribute, type, text.data()), attempted);
    return text_at(text.data(), size);
  }
  if (H5Tget_class(type) == H5T_FLOAT) {
    double value = 0;
    check(H5Aread(attribute, H5T_NATIVE_DOUBLE, &value), attempted);
    return value;
  }
  if (H5Tget_class(type) != H5T_INTEGER) return std::nullopt;
  std::int64_t value = 0;
  check(H5Aread(attribute, H5T_NATIVE_INT64, &value), attempted);
  if (size == 1) return value != 0;
  return value;
}

Values read_values(hid_t dataset, const std::string& name) {
  const std::string attempted = fmt::format("read the dataset '{}'", name);
  const Handle space(H5Dget_space(dataset), attempted);
  const Handle type(H5Dget_type(dataset), attempted);
  const auto count = static_cast<std::size_t>(check(H5Sget_simple_extent_npoints(space), attempted));
  const std::size_t size = H5Tget_size(type);
  const auto read = [&](hid_t memory_type_id, void* data) {
    if (count > 0) check(H5Dread(dataset, memory_type_id, H5S_ALL, H5S_ALL, H5P_DEFAULT, data), attempted);
  };
  if (H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) <= 0) {
    std::vector<char> bytes(count * size);
    read(text_type(size), bytes.data());
    std::vector<std::string> texts;
    for (std::size_t i = 0; i < count; ++i) texts.push_back(text_at(bytes.data() + i * size, size));
    return texts;
  }
  if (H5Tget_class(type) == H5T_FLOAT) {
    std::vector<double> values(count);
    read(H5T_NATIVE_DOUBLE, values.data());
    return values;
  }
  if (H5Tget_class(type) != H5T_INTEGER) {
    throw std::runtime_error(fmt::format(
        "dataset '{}' has a type that no longseq results file uses; expected i64, f64, u8 or text", name));
  }
  if (size == 1) {
    std::vector<std::uint8_t> values(count);
    read(H5T_NATIVE_UCHAR, values.data());
    return values;
  }
  std::vector<std::int64_t> values(count);
  read(H5T_NATIVE_INT64, values.data());
  return values;
}

std::vector<std::string> read_dims(hid_t dataset, const std::string& name) {
  const Handle space(H5Dget_space(dataset), "get a dataset's space");
  const int rank = H5Sget_simple_extent_ndims(space);
  std::vector<std::string> dims;
  for (unsigned i = 0; i < static_cast<unsigned>(rank); ++i) {
    std::string dim;
    int index = 0;
    const auto take_name = [](hid_t, unsigned, hid_t scale, void* result) -> herr_t {
      char text[256] = "";
      H5DSget_scale_name(scale, text, sizeof text);
      *static_cast<std::string*>(result) = text;
      return 1;
    };
    check(H5DSiterate_scales(dataset, i, &index, take_name, &dim),
          fmt::format("read the scales of '{}'", name));
    dims.push_back(dim);
  }
  return dims;
}

std::string text_attribute(hid_t object, const char* name) {
  if (H5Aexists(object, name) <= 0) return {};
  const std::optional<Scalar> value = read_attribute(object, name);
  const std::string* text = value ? std::get_if<std::string>(&*value) : nullptr;
  return text ? *text : std::string();
}

}  // namespace

Handle open_file(const std::string& path) {
  silence_errors();
  if (H5Fis_hdf5(path.c_str()) <= 0) {
    throw std::invalid_argument(
        fmt::format("'{}' is not a readable HDF5 file; expected a longseq results file", path));
  }
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  try {
    return {file, "open"};
  } catch (const std::runtime_error& error) {
    throw std::invalid_argument(
        fmt::format("'{}' cannot be opened ({}); hint: it may be truncated or in use", path, error.what()));
  }
}

std::vector<Attribute> read_attributes(hid_t object) {
  std::vector<std::string> names;
  const auto collect = [](hid_t, const char* name, const H5A_info_t*, void* result) -> herr_t {
    static_cast<std::vector<std::string>*>(result)->emplace_back(name);
    return 0;
  };
  check(H5Aiterate2(object, H5_INDEX_CRT_ORDER, H5_ITER_INC, nullptr, collect, &names), "list attributes");
  std::vector<Attribute> attributes;
  for (const std::string& name : names) {
    if (auto value = read_attribute(object, name)) attributes.push_back({name, *value});
  }
  return attributes;
}

Group read_group(hid_t location, const std::string& name) {
  const Handle opened = open_group(location, name);
  Group group;
  group.attributes = read_attributes(opened);
  for (const std::string& member : names_of(opened, H5_INDEX_CRT_ORDER)) {
    if (kind_of(opened, member) != H5O_TYPE_DATASET) continue;
    const Handle dataset(H5Dopen2(opened, member.c_str(), H5P_DEFAULT), fmt::format("open '{}'", member));
    const std::string units = text_attribute(dataset, "units");
    const std::string long_name = text_attribute(dataset, "long_name");
    Values values = read_values(dataset, member);
    if (H5DSis_scale(dataset) > 0) {
      group.axes.push_back({member, std::move(values), units, long_name});
    } else {
      group.arrays.push_back({member, read_dims(dataset, member), std::move(values), units, long_name});
    }
  }
  return group;
}

std::vector<std::string> subgroup_names(hid_t location, const std::string& name) {
  const Handle opened = open_group(location, name);
  std::vector<std::string> names = names_of(opened, H5_INDEX_NAME);
  std::erase_if(names, [&](const std::string& member) { return kind_of(opened, member) != H5O_TYPE_GROUP; });
  return names;
}

}  // namespace longseq::hdf5
