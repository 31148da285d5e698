#include "results/summary_table.h"

#include <fmt/format.h>
#include <hdf5_hl.h>

#include <stdexcept>

#include "results/hdf5_objects.h"
#include "results/parallel_group.h"

namespace longseq::hdf5 {
namespace {

constexpr std::int64_t kChunk = 64;    // rows
constexpr std::size_t kTextStep = 64;  // text columns grow in these steps, so that they seldom must be remade
constexpr const char* kCase = "case";

Values one_value(const Scalar& scalar) {
  struct Convert {
    Values operator()(std::int64_t value) const { return std::vector<std::int64_t>{value}; }
    Values operator()(double value) const { return std::vector<double>{value}; }
    Values operator()(bool value) const {
      return std::vector<std::uint8_t>{static_cast<std::uint8_t>(value)};
    }
    Values operator()(const std::string& value) const { return std::vector<std::string>{value}; }
  };
  return std::visit(Convert{}, scalar);
}

std::size_t width_for(const Values& values) {
  const auto* texts = std::get_if<std::vector<std::string>>(&values);
  return texts ? (text_width(*texts) + kTextStep - 1) / kTextStep * kTextStep : 0;
}

bool has(hid_t summary, const std::string& name) {
  return check(H5Lexists(summary, name.c_str(), H5P_DEFAULT), "look for a column") > 0;
}

Handle open_column(hid_t summary, const std::string& name) {
  return {H5Dopen2(summary, name.c_str(), H5P_DEFAULT), fmt::format("open the column '{}'", name)};
}

Handle type_of(hid_t dataset) {
  return {H5Dget_type(dataset), "get a column's type"};
}

Handle create_column(hid_t summary, const Label& label, hid_t type, std::int64_t rows) {
  const auto length = static_cast<hsize_t>(rows);
  const hsize_t unlimited = H5S_UNLIMITED;
  const Handle space(H5Screate_simple(1, &length, &unlimited), "make a column's space");
  Handle column = create_dataset(summary, label, type, space, static_cast<hsize_t>(kChunk));
  if (label.name == kCase) {
    make_scale(column, label.name);
  } else {
    attach_scale(column, open_column(summary, kCase), 0);
  }
  return column;
}

/// Writes rank 0's values into rows [begin, begin + count).
void write_rows(MPI_Comm comm, hid_t column, std::int64_t begin, std::int64_t count, const Values& values,
                std::size_t width, const std::string& name) {
  int rank = 0;
  MPI_Comm_rank(comm, &rank);
  const auto start = static_cast<hsize_t>(begin);
  const auto length = static_cast<hsize_t>(count);
  const Handle memory_space(H5Screate_simple(1, &length, nullptr), "make a space for rows");
  const Handle file_space(H5Dget_space(column), "get a column's space");
  check(H5Sselect_hyperslab(file_space, H5S_SELECT_SET, &start, nullptr, &length, nullptr), "select rows");
  if (rank != 0) {
    check(H5Sselect_none(file_space), "select nothing");
    check(H5Sselect_none(memory_space), "select nothing");
  }
  write_collectively(comm, column, memory_space, file_space, values, width, name);
}

void check_same_column(hid_t column, const Column& given, const Values& values) {
  const Handle stored = type_of(column);
  const bool both_text =
      H5Tget_class(stored) == H5T_STRING && std::holds_alternative<std::string>(given.value);
  if (both_text || (H5Tget_class(stored) != H5T_STRING && !std::holds_alternative<std::string>(given.value) &&
                    H5Tequal(stored, file_type(values, 0)) > 0)) {
    return;
  }
  throw std::invalid_argument(fmt::format(
      "column '{}' of the summary changes its type; expected that of the cases before it", given.name));
}

/// Remakes a text column whose texts have become too narrow for `width` bytes.
Handle widen(MPI_Comm comm, hid_t summary, Handle column, const Column& given, std::int64_t rows,
             std::size_t width) {
  const Handle wide = text_type(width);
  std::vector<char> bytes(static_cast<std::size_t>(rows) * width);
  check(H5Dread(column, wide, H5S_ALL, H5S_ALL, H5P_DEFAULT, bytes.data()), "read a text column");
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < static_cast<std::size_t>(rows); ++i) {
    const char* text = bytes.data() + i * width;
    texts.emplace_back(text, strnlen(text, width));
  }
  check(H5DSdetach_scale(column, open_column(summary, kCase), 0), "detach a text column");
  column.close("close a text column");
  check(H5Ldelete(summary, given.name.c_str(), H5P_DEFAULT), "replace a text column");
  Handle replacement = create_column(summary, {given.name, given.units, given.long_name}, wide, rows);
  write_rows(comm, replacement, 0, rows, texts, width, given.name);
  return replacement;
}

void append_value(MPI_Comm comm, hid_t summary, const Column& given, std::int64_t row) {
  const Values values = one_value(given.value);
  std::size_t width = width_for(values);
  Handle column;
  if (row == 0) {
    column =
        create_column(summary, {given.name, given.units, given.long_name}, file_type(values, width), row);
  } else {
    column = open_column(summary, given.name);
    check_same_column(column, given, values);
    if (width > 0) {
      const std::size_t stored_width = H5Tget_size(type_of(column));
      if (stored_width < width) column = widen(comm, summary, std::move(column), given, row, width);
      width = std::max(width, stored_width);
    }
  }
  const auto rows = static_cast<hsize_t>(row + 1);
  check(H5Dset_extent(column, &rows), "extend a column");
  write_rows(comm, column, row, 1, values, width, given.name);
}

}  // namespace

std::int64_t stored_row_size(const std::vector<Column>& columns, std::int64_t row) {
  const auto count = static_cast<std::int64_t>(columns.size());
  // Each column that is attached makes the list in its scale anew, one entry longer.
  constexpr std::int64_t kListEntry = 16;
  std::int64_t size = kDatasetOverhead + kListEntry * count * count;
  for (const Column& column : columns) {
    const auto width = static_cast<std::int64_t>(width_for(one_value(column.value)));
    // At most one more chunk, but for a text column that is made anew with all its rows.
    const std::int64_t rows = width > 0 ? row + kChunk : kChunk;
    size += kDatasetOverhead + rows * (width > 0 ? width : static_cast<std::int64_t>(sizeof(double)));
  }
  return size;
}

void append_row(MPI_Comm comm, hid_t summary, const std::vector<Column>& columns, std::int64_t row) {
  H5G_info_t info;
  check(H5Gget_info(summary, &info), "look at the summary");
  if (row > 0 && info.nlinks != columns.size() + 1) {
    throw std::invalid_argument(fmt::format("case {} has {} columns, expected the {} of the cases before it",
                                            row, columns.size(), info.nlinks - 1));
  }
  for (const Column& column : columns) {
    if (row > 0 && !has(summary, column.name)) {
      throw std::invalid_argument(
          fmt::format("case {} has a column '{}', which the cases before it have not", row, column.name));
    }
  }
  append_value(comm, summary, {kCase, row, "1", "number of the case"}, row);
  for (const Column& column : columns) append_value(comm, summary, column, row);
}

}  // namespace longseq::hdf5
