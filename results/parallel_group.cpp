#include "results/parallel_group.h"

#include <fmt/format.h>

#include <map>

#include "results/agreement.h"
#include "results/hdf5_objects.h"

namespace longseq::hdf5 {
namespace {

/// The same text width on every rank: the widest slice decides.
std::size_t agreed_width(MPI_Comm comm, const Values& values) {
  unsigned long long width = 0;
  if (const auto* texts = std::get_if<std::vector<std::string>>(&values)) width = text_width(*texts);
  MPI_Allreduce(MPI_IN_PLACE, &width, 1, MPI_UNSIGNED_LONG_LONG, MPI_MAX, comm);
  return static_cast<std::size_t>(width);
}

Handle data_space(const std::vector<hsize_t>& lengths) {
  if (lengths.empty()) return {H5Screate(H5S_SCALAR), "make a scalar space"};
  return {H5Screate_simple(static_cast<int>(lengths.size()), lengths.data(), nullptr), "make a space"};
}

void select_none(hid_t space) {
  check(H5Sselect_none(space), "select nothing");
}

/// An axis as a dataset that is its own dimension's scale; rank 0 writes it.
Handle write_axis(MPI_Comm comm, hid_t location, const Axis& axis, int rank) {
  const std::size_t width = agreed_width(comm, axis.coordinate);
  const Handle space = data_space({static_cast<hsize_t>(size_of(axis.coordinate))});
  const Handle type = file_type(axis.coordinate, width);
  Handle dataset = create_dataset(location, {axis.name, axis.units, axis.long_name}, type, space);
  make_scale(dataset, axis.name);
  if (rank != 0) select_none(space);
  write_collectively(comm, dataset, space, space, axis.coordinate, width, axis.name);
  return dataset;
}

void write_array(MPI_Comm comm, hid_t location, const Group& group,
                 const std::map<std::string, Handle>& scales, const Array& array, int rank) {
  std::vector<hsize_t> lengths;   // of the whole array
  std::vector<hsize_t> my_start;  // of this rank's slice
  std::vector<hsize_t> my_count;
  for (const std::string& dim : array.dims) {
    const bool split = array.distributed && dim == "rank";
    lengths.push_back(static_cast<hsize_t>(size_of(find_axis(group, dim)->coordinate)));
    my_start.push_back(split ? static_cast<hsize_t>(rank) : 0);
    my_count.push_back(split ? 1 : lengths.back());
  }
  const std::size_t width = agreed_width(comm, array.values);
  const Handle file_space = data_space(lengths);
  const Handle memory_space = data_space(my_count);
  const Handle type = file_type(array.values, width);
  const Handle dataset =
      create_dataset(location, {array.name, array.units, array.long_name}, type, file_space);
  for (std::size_t i = 0; i < array.dims.size(); ++i) {
    attach_scale(dataset, scales.at(array.dims[i]), static_cast<unsigned>(i));
  }
  if (array.distributed) {
    check(H5Sselect_hyperslab(file_space, H5S_SELECT_SET, my_start.data(), nullptr, my_count.data(), nullptr),
          "select a rank's slice");
  } else if (rank != 0) {
    select_none(file_space);
    select_none(memory_space);
  }
  write_collectively(comm, dataset, memory_space, file_space, array.values, width, array.name);
}

std::int64_t element_size(MPI_Comm comm, const Values& values) {
  const auto width = static_cast<std::int64_t>(agreed_width(comm, values));
  return width > 0 ? width : static_cast<std::int64_t>(sizeof(double));
}

}  // namespace

std::int64_t stored_size(MPI_Comm comm, const Group& group) {
  std::int64_t size = kDatasetOverhead;
  for (const Attribute& attribute : group.attributes) {
    constexpr std::int64_t kHeader = 128;
    const auto* text = std::get_if<std::string>(&attribute.value);
    size += kHeader + static_cast<std::int64_t>(attribute.name.size() + (text ? text->size() : 0));
  }
  for (const Axis& axis : group.axes) {
    size += kDatasetOverhead + size_of(axis.coordinate) * element_size(comm, axis.coordinate);
  }
  for (const Array& array : group.arrays) {
    std::int64_t bytes = element_size(comm, array.values);
    for (const std::string& dim : array.dims) bytes *= size_of(find_axis(group, dim)->coordinate);
    size += kDatasetOverhead + bytes;
  }
  return size;
}

void write_collectively(MPI_Comm comm, hid_t dataset, hid_t memory_space, hid_t file_space,
                        const Values& values, std::size_t width, const std::string& name) {
  const Handle whole(H5Dget_space(dataset), "get a dataset's space");
  if (H5Sget_simple_extent_npoints(whole) == 0) return;  // HDF5 cannot write to what has no place in the file
  const Handle transfer(H5Pcreate(H5P_DATASET_XFER), "make transfer properties");
  check(H5Pset_dxpl_mpio(transfer, H5FD_MPIO_COLLECTIVE), "choose collective transfer");
  const Handle type = memory_type(values, width);
  std::vector<char> buffer;
  const void* bytes = bytes_of(values, width, buffer);
  on_all_ranks(comm, [&] {
    check(H5Dwrite(dataset, type, memory_space, file_space, transfer, bytes),
          fmt::format("write the dataset '{}'", name));
  });
}

void write_group(MPI_Comm comm, hid_t location, const Group& group) {
  int rank = 0;
  MPI_Comm_rank(comm, &rank);
  for (const Attribute& attribute : group.attributes) {
    write_attribute(location, attribute.name, attribute.value);
  }
  std::map<std::string, Handle> scales;
  for (const Axis& axis : group.axes) scales[axis.name] = write_axis(comm, location, axis, rank);
  for (const Array& array : group.arrays) write_array(comm, location, group, scales, array, rank);
}

}  // namespace longseq::hdf5
