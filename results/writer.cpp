#include "results/writer.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <ctime>
#include <random>
#include <stdexcept>

#include "results/agreement.h"
#include "results/hdf5_objects.h"
#include "results/parallel_group.h"
#include "results/reader.h"
#include "results/record_agreement.h"
#include "results/replacement_file.h"
#include "results/summary_table.h"

namespace longseq {
namespace {

constexpr std::int64_t kFileOverhead = 32 << 10;  // the groups' own links, heaps and trees

/// What lies at a path: nothing (no launches), or a results file.
struct Found {
  std::int64_t launches = 0;
  std::int64_t finished_cases = 0;
  std::int64_t complete = 0;
};

Found look_at(const std::filesystem::path& path, const std::string& configuration_id) {
  if (path.empty() || std::filesystem::is_directory(path)) {
    throw std::invalid_argument(
        fmt::format("cannot write results to '{}': it is no file name; hint: name a file "
                    "with --output",
                    path.string()));
  }
  if (!std::filesystem::exists(path)) return {};
  const Reader reader(path.string());
  if (reader.identity().configuration_id != configuration_id) {
    throw std::invalid_argument(
        fmt::format("existing result '{}' has another configuration ({}, expected {}); hint: "
                    "choose another --output or remove it",
                    path.string(), reader.identity().configuration_id, configuration_id));
  }
  return {reader.launches(), reader.finished_cases(), reader.identity().complete ? 1 : 0};
}

std::string utc_now() {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
}

/// A random UUID, RFC 4122 version 4.
std::string random_uuid() {
  std::random_device device;
  const auto bits = [&] { return (static_cast<std::uint64_t>(device()) << 32) | device(); };
  const std::uint64_t high = (bits() & 0xFFFFFFFFFFFF0FFF) | 0x4000;
  const std::uint64_t low = (bits() & 0x3FFFFFFFFFFFFFFF) | 0x8000000000000000;
  return fmt::format("{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", high >> 32, (high >> 16) & 0xFFFF, high & 0xFFFF,
                     low >> 48, low & 0xFFFFFFFFFFFF);
}

hdf5::Handle parallel_access(MPI_Comm comm) {
  hdf5::Handle access = hdf5::access_properties();
  hdf5::check(H5Pset_fapl_mpio(access, comm, MPI_INFO_NULL), "choose MPI-IO");
  // Every rank asks for the same metadata: let one read it for all, and let all share in writing it.
  hdf5::check(H5Pset_all_coll_metadata_ops(access, true), "choose collective metadata");
  hdf5::check(H5Pset_coll_metadata_write(access, true), "choose collective metadata");
  return access;
}

hdf5::Handle open_partial(MPI_Comm comm, const std::filesystem::path& path, bool create) {
  const std::string partial = partial_path(path).string();
  const hdf5::Handle access = parallel_access(comm);
  const hdf5::Handle creation(H5Pcreate(H5P_FILE_CREATE), "make file properties");
  hdf5::track_creation_order(creation, true);
  hdf5::Handle file;
  on_all_ranks(comm, [&] {
    file = {create ? H5Fcreate(partial.c_str(), H5F_ACC_TRUNC, creation, access)
                   : H5Fopen(partial.c_str(), H5F_ACC_RDWR, access),
            fmt::format("open '{}' on all ranks", partial)};
  });
  return file;
}

void write_new_group(MPI_Comm comm, hid_t file, const std::string& path, const Group& group) {
  hdf5::write_group(comm, hdf5::create_group(file, path), group);
}

}  // namespace

/// Makes the next version of the file: edit(file) changes a copy of this one, or an empty one if `create`,
/// and makes it at most `growth` bytes longer.
template <class Edit>
void Writer::replace_file(bool create, std::int64_t growth, const Edit& edit) {
  try {
    on_rank_0(comm_, [&] { start_partial(path_, !create, growth); });
    hdf5::Handle file = open_partial(comm_, path_, create);
    on_all_ranks(comm_, [&] { edit(static_cast<hid_t>(file)); });
    on_all_ranks(comm_, [&] { file.close(fmt::format("close '{}'", partial_path(path_).string())); });
    on_rank_0(comm_, [&] { commit_partial(path_); });
  } catch (...) {
    int rank = 0;
    MPI_Comm_rank(comm_, &rank);
    if (rank == 0) drop_partial(path_);
    throw;
  }
}

Writer::Writer(MPI_Comm comm, std::filesystem::path path, std::string configuration_id)
    : comm_(comm), path_(std::move(path)), configuration_id_(std::move(configuration_id)) {
  hdf5::silence_errors();
  Found found;
  on_rank_0(comm_, [&] { found = look_at(path_, configuration_id_); });
  std::int64_t state[3] = {found.launches, found.finished_cases, found.complete};
  MPI_Bcast(state, 3, MPI_INT64_T, 0, comm_);
  launch_ = state[0];
  finished_cases_ = state[1];
  complete_ = state[2] != 0;
  if (!complete_) probe_partial(comm_, path_);
}

void Writer::begin(const RunHeader& header) {
  if (begun_ || complete_) throw std::logic_error("Writer::begin: the file is begun or complete already");
  const Group environment = agreed_group(comm_, header.environment, "/environment");
  const Group calibration = agreed_group(comm_, header.calibration, "/calibration");
  const Group config = agreed_group(comm_, header.config, "/config");
  Group root;
  root.attributes = {
      {"schema_name", kSchemaName}, {"schema_version", kSchemaVersion},      {"run_uuid", random_uuid()},
      {"created", utc_now()},       {"configuration_id", configuration_id_}, {"complete", false}};
  root = agreed_group(comm_, root, "/");

  const std::int64_t growth = kFileOverhead + hdf5::stored_size(comm_, root) +
                              hdf5::stored_size(comm_, environment) + hdf5::stored_size(comm_, calibration) +
                              hdf5::stored_size(comm_, config);
  if (launch_ == 0) {
    replace_file(true, growth, [&](hid_t file) {
      hdf5::write_group(comm_, file, root);
      write_new_group(comm_, file, "/environment", environment);
      write_new_group(comm_, file, "/config", config);
      write_new_group(comm_, file, "/calibration", calibration);
      for (const char* name : {"/summary", "/cases", "/resumed"}) hdf5::create_group(file, name);
    });
  } else {
    replace_file(false, growth, [&](hid_t file) {
      const hdf5::Handle resumed = hdf5::create_group(file, resumed_path(launch_));
      hdf5::write_attribute(resumed, "created", *find_attribute(root, "created"));
      write_new_group(comm_, resumed, "environment", environment);
      write_new_group(comm_, resumed, "calibration", calibration);
    });
  }
  begun_ = true;
}

void Writer::append(const CaseRecord& record) {
  if (!begun_ || complete_) throw std::logic_error("Writer::append: the file is not begun, or complete");
  const std::string where = case_path(finished_cases_);
  std::vector<Column> columns = {{"launch", launch_, "1", "launch that measured the case"}};
  columns.insert(columns.end(), record.columns.begin(), record.columns.end());
  columns = agreed_columns(comm_, columns);
  Group group = record.group;
  std::vector<Attribute> attributes = {{"case", finished_cases_}};
  for (const Column& column : columns) attributes.push_back({column.name, column.value});
  group.attributes.insert(group.attributes.begin(), attributes.begin(), attributes.end());
  group = agreed_group(comm_, group, where);

  const std::int64_t growth =
      kFileOverhead + hdf5::stored_size(comm_, group) + hdf5::stored_row_size(columns, finished_cases_);
  replace_file(false, growth, [&](hid_t file) {
    write_new_group(comm_, file, where, group);
    hdf5::append_row(comm_, hdf5::open_group(file, "/summary"), columns, finished_cases_);
  });
  ++finished_cases_;
}

void Writer::finish() {
  if (!begun_ || complete_) throw std::logic_error("Writer::finish: the file is not begun, or complete");
  replace_file(false, kFileOverhead, [&](hid_t file) {
    const hdf5::Handle attribute(H5Aopen(file, "complete", H5P_DEFAULT), "open 'complete'");
    const unsigned char yes = 1;
    hdf5::check(H5Awrite(attribute, H5T_NATIVE_UCHAR, &yes), "write 'complete'");
  });
  complete_ = true;
}

}  // namespace longseq
