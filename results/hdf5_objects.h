// How every object of a results file is made: creation order tracked, text fixed-length UTF-8, units and long
// name, dimension scales. In a file opened in parallel, whatever creates or writes is collective and must be
// given the same arguments on every rank.
#pragma once

#include <hdf5.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "results/hdf5_handle.h"
#include "results/record.h"

namespace longseq::hdf5 {

/// The names and units that a dataset carries.
struct Label {
  std::string name;
  std::string units;
  std::string long_name;
};

/// Sets on a property list for creating files, groups or datasets what all objects have in common.
void track_creation_order(hid_t creation_properties, bool has_links);

/// File access in the format of HDF5 1.8, which every reader understands.
Handle access_properties();

Handle create_group(hid_t location, const std::string& name);
Handle open_group(hid_t location, const std::string& name);

/// Fixed-length, null-padded UTF-8 of `length` bytes (at least 1).
Handle text_type(std::size_t length);

/// The width of the widest text, in whole words: 8 bytes at least, as readers take text of 1 byte for a
/// character array, whose last dimension they fold.
std::size_t text_width(const std::vector<std::string>& texts);

/// `text` with every byte that is not part of well-formed UTF-8 replaced by '?': readers refuse a whole file
/// for one such byte.
std::string well_formed_utf8(std::string_view text);

/// The file's or the memory's type of the values; text takes `width` bytes.
Handle file_type(const Values& values, std::size_t width);
Handle memory_type(const Values& values, std::size_t width);

/// Throws std::invalid_argument if text is longer than the 60000 bytes that fit into an attribute.
void write_attribute(hid_t object, const std::string& name, const Scalar& value);

/// Creates a labelled dataset; `chunk` > 0 makes a 1-D one extensible, in chunks of that many values.
Handle create_dataset(hid_t location, const Label& label, hid_t type, hid_t space, hsize_t chunk = 0);

/// Makes the 1-D dataset the scale of the dimension that bears its name.
void make_scale(hid_t dataset, const std::string& name);
void attach_scale(hid_t dataset, hid_t scale, unsigned dimension);

/// The bytes to write for the values: text padded to `width`. `buffer` may be used to hold them.
const void* bytes_of(const Values& values, std::size_t width, std::vector<char>& buffer);

}  // namespace longseq::hdf5
