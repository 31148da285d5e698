#include "suite/summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace longseq {
namespace {

std::string seconds(double s) {
  if (s < 1e-3) return fmt::format("{:.1f} µs", s * 1e6);
  if (s < 1) return fmt::format("{:.2f} ms", s * 1e3);
  return fmt::format("{:.3f} s", s);
}

std::string bytes(std::int64_t count) {
  constexpr std::array units{"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  auto value = static_cast<double>(count);
  std::size_t unit = 0;
  for (; value >= 1024 && unit + 1 < units.size(); ++unit) value /= 1024;
  return unit == 0 ? fmt::format("{} B", count) : fmt::format("{:.1f} {}", value, units[unit]);
}

std::string percent(double fraction) {
  return fmt::format("{:.1f} %", 100 * fraction);
}

struct Column {
  std::string_view title;
  bool is_figure;  // withheld unless the verdict holds
  std::function<std::string(const SummaryRow&)> text;
};

const std::vector<Column>& columns() {
  using Row = const SummaryRow&;
  static const std::vector<Column> all = {
      {"S", false, [](Row r) { return fmt::format("{}", r.seq_len); }},
      {"P×T", false, [](Row r) { return fmt::format("{}×{}", r.ranks, r.threads); }},
      {"median", true, [](Row r) { return seconds(r.median_seconds); }},
      {"±", true, [](Row r) { return r.half_width ? percent(*r.half_width) : "unknown"; }},
      {"TFLOP/s", true, [](Row r) { return fmt::format("{:.3f}", r.tflops); }},
      {"of peak", true, [](Row r) { return percent(r.peak_fraction); }},
      {"of bound", true, [](Row r) { return percent(r.bound_fraction); }},
      {"imbalance", true, [](Row r) { return fmt::format("{:.2f}", r.imbalance); }},
      {"sent", false, [](Row r) { return bytes(r.bytes_sent); }},
  };
  return all;
}

std::string cell(const Column& column, const SummaryRow& row) {
  return column.is_figure && !holds(row.verdict) ? "—" : column.text(row);
}

/// Columns on a terminal: code points, all of width 1 here.
std::size_t width_of(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::size_t width_of(const Column& column, std::span<const SummaryRow> rows) {
  std::size_t width = width_of(column.title);
  for (const SummaryRow& row : rows) width = std::max(width, width_of(cell(column, row)));
  return width;
}

}  // namespace

std::string summary_table(std::span<const SummaryRow> rows) {
  std::size_t label_width = width_of("case");
  for (const SummaryRow& row : rows) label_width = std::max(label_width, width_of(row.label));
  const std::size_t number_width = fmt::formatted_size("{}", rows.size());

  std::string head = fmt::format("{:>{}}  {:<{}}", "#", number_width, "case", label_width);
  std::vector<std::string> lines;
  for (const SummaryRow& row : rows) {
    lines.push_back(fmt::format("{:>{}}  {:<{}}", lines.size() + 1, number_width, row.label, label_width));
  }
  for (const Column& column : columns()) {
    const std::size_t width = width_of(column, rows);
    head += fmt::format("  {:>{}}", column.title, width);
    for (std::size_t i = 0; i < rows.size(); ++i)
      lines[i] += fmt::format("  {:>{}}", cell(column, rows[i]), width);
  }
  std::string table = head + "  verdict\n";
  for (std::size_t i = 0; i < rows.size(); ++i)
    table += fmt::format("{}  {}\n", lines[i], axes(rows[i].verdict));
  for (std::size_t i = 0; i < rows.size(); ++i) {
    for (const std::string& reason : rows[i].verdict.reasons)
      table += fmt::format("case {}: {}\n", i + 1, reason);
  }
  return table;
}

std::string prediction_text(std::span<const SummaryRow> rows) {
  constexpr double kClose = 0.15;
  std::size_t held = 0, close = 0;
  std::map<std::string, std::vector<const SummaryRow*>> alike;  // by the label without the strategy
  for (const SummaryRow& row : rows) {
    if (!holds(row.verdict)) continue;
    ++held;
    if (std::abs(row.predicted_seconds / row.median_seconds - 1) <= kClose) ++close;
    std::string label = row.label;
    const auto at = label.find(" " + row.strategy + "/");
    if (at != std::string::npos)
      label = fmt::format("{} *{}", label.substr(0, at), label.substr(at + 1 + row.strategy.size()));
    alike[fmt::format("{} on {}x{}", label, row.ranks, row.threads)].push_back(&row);
  }
  if (held == 0) return "";
  std::string text =
      fmt::format("predicted within {:.0f} % of the median: {} of {} cases\n", 100 * kClose, close, held);
  for (const auto& [label, same] : alike) {
    if (same.size() < 2) continue;
    const auto least = [&](auto member) {
      return **std::min_element(same.begin(), same.end(), [&](const SummaryRow* a, const SummaryRow* b) {
        return a->*member < b->*member;
      });
    };
    const SummaryRow picked = least(&SummaryRow::predicted_seconds),
                     best = least(&SummaryRow::median_seconds);
    text += fmt::format("{}: predicted best {}, measured best {}, regret {:.1f} %\n", label, picked.strategy,
                        best.strategy, 100 * (picked.median_seconds / best.median_seconds - 1));
  }
  return text;
}

}  // namespace longseq
