#include "drivers/stored_rows.h"

#include <fmt/format.h>

#include <cmath>
#include <sstream>
#include <stdexcept>
#include <string>

#include "suite/statistics.h"

namespace longseq {
namespace {

template <class T>
T value(const Group& group, const std::string& name) {
  const Scalar* found = find_attribute(group, name);
  if (found == nullptr || !std::holds_alternative<T>(*found)) {
    throw std::runtime_error(fmt::format(
        "a case of the results file has no '{}'; hint: was it written by another version?", name));
  }
  return std::get<T>(*found);
}

SummaryRow row_of(const Group& group) {
  SummaryRow row;
  row.label = value<std::string>(group, "label");
  row.seq_len = value<std::int64_t>(group, "seq_len");
  row.ranks = static_cast<int>(value<std::int64_t>(group, "ranks"));
  row.threads = static_cast<int>(value<std::int64_t>(group, "threads"));
  row.median_seconds = value<double>(group, "median_time");
  const MedianInterval interval{value<double>(group, "interval_low"), value<double>(group, "interval_high"),
                                0};
  if (!std::isnan(interval.low)) row.half_width = relative_half_width(interval, row.median_seconds);
  row.tflops = value<double>(group, "flop_rate") / 1e12;
  row.peak_fraction = value<double>(group, "fraction_of_peak");
  row.bound_fraction = value<double>(group, "fraction_of_bound");
  row.imbalance = value<double>(group, "imbalance");
  row.bytes_sent = value<std::int64_t>(group, "bytes_sent");
  row.strategy = value<std::string>(group, "strategy");
  row.predicted_seconds = value<double>(group, "predicted_time");
  const auto flag = [&](const char* name) { return value<bool>(group, name); };
  row.verdict = {flag("valid"), flag("converged"), flag("clean"), {}};
  std::istringstream reasons(value<std::string>(group, "reasons"));
  for (std::string reason; std::getline(reasons, reason);) row.verdict.reasons.push_back(reason);
  return row;
}

}  // namespace

std::vector<SummaryRow> summary_rows(const Reader& file) {
  std::vector<SummaryRow> rows;
  for (std::int64_t index = 0; index < file.finished_cases(); ++index)
    rows.push_back(row_of(file.case_group(index)));
  return rows;
}

}  // namespace longseq
