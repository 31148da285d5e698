// Reads HDF5 groups into records, serially.
#pragma once

#include <hdf5.h>

#include <string>
#include <vector>

#include "results/hdf5_handle.h"
#include "results/record.h"

namespace longseq::hdf5 {

/// Opens a file for reading by this process alone. Throws std::invalid_argument if it is missing, unreadable,
/// truncated or not HDF5.
Handle open_file(const std::string& path);

/// The scalar attributes of an object, as written: in creation order where it was tracked. Those of another
/// kind (the dimension scales' own) are left out.
std::vector<Attribute> read_attributes(hid_t object);

/// The group's attributes, its dimension scales as axes and its other datasets as arrays, all in the order in
/// which they were written. Subgroups are left out. Throws std::runtime_error if a dataset cannot be read.
Group read_group(hid_t location, const std::string& name);

/// The names of a group's subgroups, in the order of their names.
std::vector<std::string> subgroup_names(hid_t location, const std::string& name);

}  // namespace longseq::hdf5
