#include "results/reader.h"

#include <fmt/format.h>

#include <charconv>
#include <stdexcept>

#include "results/hdf5_read.h"

namespace longseq {
namespace {

template <class T>
T required(const Group& root, const char* name, const std::string& path) {
  const Scalar* value = find_attribute(root, name);
  if (value == nullptr || !std::holds_alternative<T>(*value)) {
    throw std::invalid_argument(fmt::format(
        "'{}' is not a longseq results file: its attribute '{}' is missing or of another type; hint: "
        "see results/SCHEMA.md",
        path, name));
  }
  return std::get<T>(*value);
}

void check_version(const std::string& version, const std::string& path) {
  int major = -1;
  const auto parsed = std::from_chars(version.data(), version.data() + version.size(), major);
  if (parsed.ec == std::errc() && *parsed.ptr == '.' && major == kSchemaMajor) return;
  throw std::invalid_argument(
      fmt::format("'{}' has schema version '{}', expected {}.x; hint: read it with the longseq "
                  "that wrote it",
                  path, version, kSchemaMajor));
}

FileIdentity read_identity(hid_t file, const std::string& path) {
  Group root;
  root.attributes = hdf5::read_attributes(file);
  const auto schema = required<std::string>(root, "schema_name", path);
  if (schema != kSchemaName) {
    throw std::invalid_argument(
        fmt::format("'{}' has the schema '{}', expected '{}'", path, schema, kSchemaName));
  }
  FileIdentity identity;
  identity.schema_version = required<std::string>(root, "schema_version", path);
  check_version(identity.schema_version, path);
  identity.run_uuid = required<std::string>(root, "run_uuid", path);
  identity.created = required<std::string>(root, "created", path);
  identity.configuration_id = required<std::string>(root, "configuration_id", path);
  identity.complete = required<bool>(root, "complete", path);
  return identity;
}

void check_index(std::int64_t index, std::int64_t count, const char* what) {
  if (index < 0 || index >= count) {
    throw std::invalid_argument(fmt::format("there is no {} {}; expected 0 to {}", what, index, count - 1));
  }
}

}  // namespace

Reader::Reader(const std::string& path)
    : file_(hdf5::open_file(path)), identity_(read_identity(file_, path)) {
  finished_cases_ = static_cast<std::int64_t>(hdf5::subgroup_names(file_, "/cases").size());
  launches_ = 1 + static_cast<std::int64_t>(hdf5::subgroup_names(file_, "/resumed").size());
}

Group Reader::config() const {
  return hdf5::read_group(file_, "/config");
}

Group Reader::environment(std::int64_t launch) const {
  return of_launch(launch, "/environment");
}

Group Reader::calibration(std::int64_t launch) const {
  return of_launch(launch, "/calibration");
}

Group Reader::of_launch(std::int64_t launch, const std::string& name) const {
  check_index(launch, launches_, "launch");
  return hdf5::read_group(file_, launch == 0 ? name : resumed_path(launch) + name);
}

Group Reader::summary() const {
  return hdf5::read_group(file_, "/summary");
}

Group Reader::case_group(std::int64_t index) const {
  check_index(index, finished_cases_, "case");
  return hdf5::read_group(file_, case_path(index));
}

std::string case_path(std::int64_t index) {
  return fmt::format("/cases/{:04}", index);
}

std::string resumed_path(std::int64_t launch) {
  return fmt::format("/resumed/{:04}", launch);
}

}  // namespace longseq
