// What a results file holds, as plain data. Nothing here knows what is measured: the floors above name every
// attribute, axis and array. The file's layout is described in results/SCHEMA.md.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace longseq {

inline constexpr const char* kSchemaName = "longseq-results";
inline constexpr const char* kSchemaVersion = "1.1.0";
inline constexpr int kSchemaMajor = 1;

/// One value: stored as i64, f64, fixed-length UTF-8 or u8 (bool).
using Scalar = std::variant<std::int64_t, double, std::string, bool>;

/// Row-major values: stored as i64, f64, u8 or fixed-length UTF-8.
using Values = std::variant<std::vector<double>, std::vector<std::int64_t>, std::vector<std::uint8_t>,
                            std::vector<std::string>>;

std::int64_t size_of(const Values& values);

struct Attribute {
  std::string name;
  Scalar value;
};

/// An option or a figure of one case: an attribute of /cases/NNNN and a row of the column /summary/name.
struct Column {
  std::string name;
  Scalar value;
  std::string units;  // "s", "B", "flop/s", "1", ...; empty for text and for flags
  std::string long_name;
};

/// A dimension and its coordinate, one value per index.
struct Axis {
  std::string name;
  Values coordinate;
  std::string units;
  std::string long_name;
};

/// A named array over axes of its own group.
struct Array {
  std::string name;
  std::vector<std::string> dims;  // axis names, slowest first; none for a single value
  Values values;
  std::string units;
  std::string long_name;
  /// true: the axis "rank" is split, and every rank holds exactly its own slice (its length along "rank" is
  /// 1, so samples [phase, rank, repetition] has phases × repetitions values on each rank).
  /// false: rank 0 holds everything; what other ranks hold is ignored.
  bool distributed = false;
};

/// The contents of one HDF5 group. The axes "rank" and "peer" need not be given: the writer adds 0..P-1.
struct Group {
  std::vector<Attribute> attributes;
  std::vector<Axis> axes;
  std::vector<Array> arrays;
};

/// One finished case: /cases/NNNN and one row of /summary. Every case of a file has the same columns.
struct CaseRecord {
  std::vector<Column> columns;
  Group group;  // what is not in the summary: further attributes, samples, bytes and messages, ...
};

/// What is known once per launch, before the first case.
struct RunHeader {
  Group environment;
  Group config;
  Group calibration;
};

/// The member called `name`, or nullptr.
const Scalar* find_attribute(const Group& group, const std::string& name);
const Axis* find_axis(const Group& group, const std::string& name);
const Array* find_array(const Group& group, const std::string& name);

}  // namespace longseq
