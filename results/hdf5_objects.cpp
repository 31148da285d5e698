#include "results/hdf5_objects.h"

#include <fmt/format.h>
#include <hdf5_hl.h>

#include <algorithm>
#include <array>
#include <stdexcept>

namespace longseq::hdf5 {
namespace {

constexpr std::size_t kLongestAttribute = 60000;  // an object header message holds 64 KiB

/// The bytes of the UTF-8 sequence that `text` starts with, or 0 if it starts with none (RFC 3629).
std::size_t sequence_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return lead == 0 ? 0 : 1;
  const std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  const bool overlong = (lead == 0xE0 && byte(1) < 0xA0) || (lead == 0xF0 && byte(1) < 0x90);
  const bool surrogate = lead == 0xED && byte(1) > 0x9F;
  const bool beyond = lead == 0xF4 && byte(1) > 0x8F;
  return overlong || surrogate || beyond ? 0 : length;
}

// In the order of the alternatives of Values.
hid_t numeric_type(const Values& values, const std::array<hid_t, 3>& types) {
  return types[values.index()];
}

bool is_text(const Values& values) {
  return std::holds_alternative<std::vector<std::string>>(values);
}

struct AttributeValue {
  std::string_view name;
  hid_t object;

  void operator()(std::int64_t value) const { write(H5T_STD_I64LE, H5T_NATIVE_INT64, &value); }
  void operator()(double value) const { write(H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &value); }
  void operator()(bool value) const {
    const unsigned char flag = value ? 1 : 0;
    write(H5T_STD_U8LE, H5T_NATIVE_UCHAR, &flag);
  }
  void operator()(const std::string& value) const {
    if (value.size() > kLongestAttribute) {
      throw std::invalid_argument(
          fmt::format("attribute '{}' has {} bytes, at most {} fit; hint: store it as an array", name,
                      value.size(), kLongestAttribute));
    }
    std::string text = well_formed_utf8(value);
    text.resize(std::max<std::size_t>(1, text.size()));
    const Handle type = text_type(text.size());
    write(type, type, text.data());
  }
  void write(hid_t file_type_id, hid_t memory_type_id, const void* data) const {
    const std::string attempted = fmt::format("write the attribute '{}'", name);
    const Handle space(H5Screate(H5S_SCALAR), attempted);
    const Handle attribute(
        H5Acreate2(object, std::string(name).c_str(), file_type_id, space, H5P_DEFAULT, H5P_DEFAULT),
        attempted);
    check(H5Awrite(attribute, memory_type_id, data), attempted);
  }
};

}  // namespace

void track_creation_order(hid_t properties, bool has_links) {
  constexpr unsigned kTracked = H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED;
  check(H5Pset_attr_creation_order(properties, kTracked), "track the attributes' creation order");
  // Attributes stay in the object's header however many there are: HDF5's dense form cannot replace an
  // attribute whose creation order is tracked, and dimension scales replace theirs at each attachment.
  check(H5Pset_attr_phase_change(properties, 65535, 65535), "keep attributes in the header");
  if (has_links) {
    check(H5Pset_link_creation_order(properties, kTracked), "track the links' creation order");
  }
}

Handle access_properties() {
  Handle properties(H5Pcreate(H5P_FILE_ACCESS), "make file access properties");
  check(H5Pset_libver_bounds(properties, H5F_LIBVER_V18, H5F_LIBVER_V18), "choose the file format");
  return properties;
}

Handle create_group(hid_t location, const std::string& name) {
  const Handle properties(H5Pcreate(H5P_GROUP_CREATE), "make group properties");
  track_creation_order(properties, true);
  return {H5Gcreate2(location, name.c_str(), H5P_DEFAULT, properties, H5P_DEFAULT),
          fmt::format("create the group '{}'", name)};
}

Handle open_group(hid_t location, const std::string& name) {
  return {H5Gopen2(location, name.c_str(), H5P_DEFAULT), fmt::format("open the group '{}'", name)};
}

Handle text_type(std::size_t length) {
  Handle type(H5Tcopy(H5T_C_S1), "make a text type");
  check(H5Tset_size(type, length), "set a text's size");
  check(H5Tset_cset(type, H5T_CSET_UTF8), "set a text's character set");
  check(H5Tset_strpad(type, H5T_STR_NULLPAD), "set a text's padding");
  return type;
}

std::size_t text_width(const std::vector<std::string>& texts) {
  constexpr std::size_t kWord = 8;
  std::size_t longest = 1;
  for (const std::string& text : texts) longest = std::max(longest, text.size());
  return (longest + kWord - 1) / kWord * kWord;
}

std::string well_formed_utf8(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    const std::size_t length = sequence_length(text);
    if (length == 0) {
      result += '?';
      text.remove_prefix(1);
    } else {
      result += text.substr(0, length);
      text.remove_prefix(length);
    }
  }
  return result;
}

Handle file_type(const Values& values, std::size_t width) {
  if (is_text(values)) return text_type(width);
  return {H5Tcopy(numeric_type(values, {H5T_IEEE_F64LE, H5T_STD_I64LE, H5T_STD_U8LE})), "make a type"};
}

Handle memory_type(const Values& values, std::size_t width) {
  if (is_text(values)) return text_type(width);
  return {H5Tcopy(numeric_type(values, {H5T_NATIVE_DOUBLE, H5T_NATIVE_INT64, H5T_NATIVE_UCHAR})),
          "make a type"};
}

void write_attribute(hid_t object, const std::string& name, const Scalar& value) {
  std::visit(AttributeValue{name, object}, value);
}

Handle create_dataset(hid_t location, const Label& label, hid_t type, hid_t space, hsize_t chunk) {
  const std::string attempted = fmt::format("create the dataset '{}'", label.name);
  const Handle properties(H5Pcreate(H5P_DATASET_CREATE), attempted);
  track_creation_order(properties, false);
  if (chunk > 0) check(H5Pset_chunk(properties, 1, &chunk), attempted);
  Handle dataset(H5Dcreate2(location, label.name.c_str(), type, space, H5P_DEFAULT, properties, H5P_DEFAULT),
                 attempted);
  write_attribute(dataset, "units", label.units);
  write_attribute(dataset, "long_name", label.long_name);
  // The convention by which xarray turns bytes into text.
  if (H5Tget_class(type) == H5T_STRING) write_attribute(dataset, "_Encoding", std::string("utf-8"));
  return dataset;
}

void make_scale(hid_t dataset, const std::string& name) {
  check(H5DSset_scale(dataset, name.c_str()), fmt::format("make the dimension scale '{}'", name));
}

void attach_scale(hid_t dataset, hid_t scale, unsigned dimension) {
  check(H5DSattach_scale(dataset, scale, dimension),
        fmt::format("attach a scale to dimension {}", dimension));
}

const void* bytes_of(const Values& values, std::size_t width, std::vector<char>& buffer) {
  if (const auto* texts = std::get_if<std::vector<std::string>>(&values)) {
    buffer.assign(std::max<std::size_t>(1, texts->size() * width), '\0');
    for (std::size_t i = 0; i < texts->size(); ++i) {
      const std::string text = well_formed_utf8((*texts)[i]);
      std::copy(text.begin(), text.end(), buffer.begin() + static_cast<std::ptrdiff_t>(i * width));
    }
    return buffer.data();
  }
  buffer.assign(1, '\0');  // HDF5 wants an address even where a rank writes nothing
  return std::visit(
      [&](const auto& vector) -> const void* {
        return vector.empty() ? static_cast<const void*>(buffer.data()) : vector.data();
      },
      values);
}

}  // namespace longseq::hdf5
