#include "drivers/tensor_file.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <stdexcept>
#include <system_error>

#include "results/agreement.h"
#include "results/replacement_file.h"

namespace longseq {
namespace {

template <class T>
hid_t native_type();
template <>
hid_t native_type<float>() {
  return H5T_NATIVE_FLOAT;
}
template <>
hid_t native_type<double>() {
  return H5T_NATIVE_DOUBLE;
}
template <>
hid_t native_type<std::int64_t>() {
  return H5T_NATIVE_INT64;
}

std::vector<hsize_t> sizes(const std::vector<std::int64_t>& extents) {
  return {extents.begin(), extents.end()};
}

/// Selects the run's tokens, of all batches and heads, in the space of a (batch, heads, tokens[, head_dim])
/// dataset.
void select_run(hid_t space, std::vector<std::int64_t> extents, const Run& run) {
  std::vector<hsize_t> start(extents.size(), 0), stride(extents.size(), 1), count = sizes(extents);
  start[2] = static_cast<hsize_t>(run.start);
  stride[2] = static_cast<hsize_t>(run.stride);
  count[2] = static_cast<hsize_t>(run.count);
  hdf5::check(H5Sselect_hyperslab(space, H5S_SELECT_SET, start.data(), stride.data(), count.data(), nullptr),
              "select rows");
}

/// A space of the dense memory of `rows` local rows, with the run's own rows selected.
hdf5::Handle memory_rows(std::vector<std::int64_t> extents, std::int64_t rows, std::int64_t first,
                         std::int64_t count) {
  extents[2] = rows;
  hdf5::Handle space(H5Screate_simple(static_cast<int>(extents.size()), sizes(extents).data(), nullptr),
                     "describe memory");
  select_run(space, std::move(extents), {first, 1, count});
  return space;
}

hdf5::Handle space_of(const std::vector<std::int64_t>& extents) {
  return {H5Screate_simple(static_cast<int>(extents.size()), sizes(extents).data(), nullptr),
          "describe a dataset"};
}

template <class T>
hdf5::Handle create(hid_t file, const std::string& name, hid_t space) {
  return {H5Dcreate2(file, name.c_str(), native_type<T>(), space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT),
          "create a dataset"};
}

}  // namespace

TensorInput::TensorInput(const std::string& path) : path_(path) {
  hdf5::silence_errors();
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) {
    throw std::invalid_argument(
        fmt::format("input '{}' is no file; expected an HDF5 file with /q, /k and /v", path));
  }
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  if (file < 0) {
    throw std::invalid_argument(fmt::format(
        "input '{}' is not a readable HDF5 file; expected one with /q, /k and /v; hint: it may be "
        "truncated or of another format",
        path));
  }
  file_ = {file, "open a file"};
}

bool TensorInput::has(const std::string& name) const {
  return H5Lexists(file_, name.c_str(), H5P_DEFAULT) > 0;
}

hdf5::Handle TensorInput::open(const std::string& name) const {
  if (!has(name)) {
    throw std::invalid_argument(fmt::format(
        "'{}' has no dataset '{}'; hint: attend reads /q, /k and /v, and what --pattern and --position need",
        path_, name));
  }
  const hid_t dataset = H5Dopen2(file_, name.c_str(), H5P_DEFAULT);
  if (dataset < 0)
    throw std::invalid_argument(fmt::format("'{}' in '{}' is no dataset; expected a tensor", name, path_));
  return {dataset, "open a dataset"};
}

std::vector<std::int64_t> TensorInput::extents(const std::string& name, int rank, bool whole) const {
  const hdf5::Handle dataset = open(name);
  const hdf5::Handle type(H5Dget_type(dataset), "read a type");
  const H5T_class_t kind = H5Tget_class(type);
  const std::size_t bytes = H5Tget_size(type);
  const bool right_type = whole ? kind == H5T_INTEGER : kind == H5T_FLOAT && (bytes == 4 || bytes == 8);
  if (!right_type) {
    throw std::invalid_argument(fmt::format("'{}' in '{}' holds {} of {} bytes; expected {}", name, path_,
                                            kind == H5T_INTEGER ? "integers"
                                            : kind == H5T_FLOAT ? "floating-point numbers"
                                                                : "another type",
                                            bytes, whole ? "integers" : "f32 or f64"));
  }
  const hdf5::Handle space(H5Dget_space(dataset), "read a shape");
  const int found = H5Sget_simple_extent_ndims(space);
  std::vector<hsize_t> dims(static_cast<std::size_t>(std::max(found, 1)), 0);
  H5Sget_simple_extent_dims(space, dims.data(), nullptr);
  if (found != rank) {
    throw std::invalid_argument(
        fmt::format("'{}' in '{}' has {} dimensions; expected {}", name, path_, found, rank));
  }
  for (const hsize_t extent : dims) {
    if (extent == 0) {
      throw std::invalid_argument(
          fmt::format("'{}' in '{}' has the shape ({}); expected at least 1 in every dimension", name, path_,
                      fmt::join(dims, ", ")));
    }
  }
  return {dims.begin(), dims.end()};
}

bool TensorInput::is_double(const std::string& name) const {
  const hdf5::Handle type(H5Dget_type(open(name)), "read a type");
  return H5Tget_size(type) == sizeof(double);
}

template <class T>
void TensorInput::read(const std::string& name, const Shard& shard, TensorView<T> rows) const {
  const hdf5::Handle dataset = open(name);
  const std::vector<std::int64_t> whole = extents(name, 4);
  const hdf5::Handle space(H5Dget_space(dataset), "read a shape");
  std::int64_t first = 0;
  for (const Run& run : shard) {
    select_run(space, whole, run);
    const hdf5::Handle memory = memory_rows(whole, rows.shape.tokens, first, run.count);
    if (H5Dread(dataset, native_type<T>(), memory, space, H5P_DEFAULT, rows.data) < 0) {
      throw std::runtime_error(
          fmt::format("'{}' in '{}' could not be read; hint: the file may be truncated", name, path_));
    }
    first += run.count;
  }
}

template <class T>
std::vector<T> TensorInput::read_all(const std::string& name) const {
  const hdf5::Handle dataset = open(name);
  const hdf5::Handle space(H5Dget_space(dataset), "read a shape");
  std::vector<T> values(static_cast<std::size_t>(H5Sget_simple_extent_npoints(space)));
  if (H5Dread(dataset, native_type<T>(), H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()) < 0) {
    throw std::runtime_error(
        fmt::format("'{}' in '{}' could not be read; hint: the file may be truncated", name, path_));
  }
  return values;
}

TensorOutput::TensorOutput(MPI_Comm comm, std::filesystem::path path, std::int64_t bytes)
    : comm_(comm), path_(std::move(path)) {
  hdf5::silence_errors();
  on_rank_0(comm_, [&] {
    if (path_.empty() || std::filesystem::is_directory(path_)) {
      throw std::invalid_argument(fmt::format(
          "cannot write '{}': it is no file name; hint: name a file with --output", path_.string()));
    }
    std::error_code ignored;
    if (std::filesystem::exists(path_, ignored) && std::filesystem::file_size(path_, ignored) != 0) {
      throw std::invalid_argument(
          fmt::format("output '{}' exists; expected a new file; hint: choose another --output or remove it",
                      path_.string()));
    }
  });
  probe_partial(comm_, path_);
  on_rank_0(comm_, [&] { start_partial(path_, false, bytes); });
}

void TensorOutput::open() {
  on_all_ranks(comm_, [&] {
    const hdf5::Handle access(H5Pcreate(H5P_FILE_ACCESS), "make file properties");
    hdf5::check(H5Pset_fapl_mpio(access, comm_, MPI_INFO_NULL), "choose MPI-IO");
    file_ = {H5Fcreate(partial_path(path_).c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access),
             fmt::format("create '{}'", partial_path(path_).string())};
  });
}

TensorOutput::~TensorOutput() {
  int rank = 0;
  MPI_Comm_rank(comm_, &rank);
  file_ = {};
  if (rank == 0) drop_partial(path_);
}

template <class T>
void TensorOutput::write(const std::string& name, std::vector<std::int64_t> whole, const Shard& shard,
                         TensorView<const T> rows) {
  on_all_ranks(comm_, [&] {
    const hdf5::Handle space = space_of(whole);
    const hdf5::Handle dataset = create<T>(file_, name, space);
    std::int64_t first = 0;
    for (const Run& run : shard) {  // independent writes: ranks may have different numbers of runs
      select_run(space, whole, run);
      const hdf5::Handle memory = memory_rows(whole, rows.shape.tokens, first, run.count);
      hdf5::check(H5Dwrite(dataset, native_type<T>(), memory, space, H5P_DEFAULT, rows.data),
                  fmt::format("write '{}'", name));
      first += run.count;
    }
  });
}

template <class T>
void TensorOutput::write_from_rank_0(const std::string& name, const std::vector<std::int64_t>& extents,
                                     const std::vector<T>& values) {
  int rank = 0;
  MPI_Comm_rank(comm_, &rank);
  on_all_ranks(comm_, [&] {
    const hdf5::Handle dataset = create<T>(file_, name, space_of(extents));
    if (rank != 0) return;
    hdf5::check(H5Dwrite(dataset, native_type<T>(), H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()),
                fmt::format("write '{}'", name));
  });
}

void TensorOutput::finish() {
  on_all_ranks(comm_, [&] { file_.close(fmt::format("close '{}'", partial_path(path_).string())); });
  on_rank_0(comm_, [&] { commit_partial(path_); });
}

template void TensorInput::read<float>(const std::string&, const Shard&, TensorView<float>) const;
template void TensorInput::read<double>(const std::string&, const Shard&, TensorView<double>) const;
template std::vector<float> TensorInput::read_all<float>(const std::string&) const;
template std::vector<double> TensorInput::read_all<double>(const std::string&) const;
template std::vector<std::int64_t> TensorInput::read_all<std::int64_t>(const std::string&) const;
template void TensorOutput::write_from_rank_0<float>(const std::string&, const std::vector<std::int64_t>&,
                                                     const std::vector<float>&);
template void TensorOutput::write_from_rank_0<double>(const std::string&, const std::vector<std::int64_t>&,
                                                      const std::vector<double>&);
template void TensorOutput::write<float>(const std::string&, std::vector<std::int64_t>, const Shard&,
                                         TensorView<const float>);
template void TensorOutput::write<double>(const std::string&, std::vector<std::int64_t>, const Shard&,
                                          TensorView<const double>);

}  // namespace longseq
