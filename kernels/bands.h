// A pattern as bands: queries that follow each other see keys whose ends are fixed or move with them. Not for
// use outside kernels/.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/pattern.h"

namespace longseq::detail {

/// One end of a band of keys: a fixed position, or the query's own position plus an offset.
struct Edge {
  bool follows_query;
  std::int64_t offset;

  constexpr std::int64_t of(std::int64_t query) const { return follows_query ? query + offset : offset; }
};

/// For each query of a piece, the keys [low, high). Ends may lie outside the sequence.
struct Band {
  Edge low;
  Edge high;
  int interval = 0;  // 1: the second that its queries see
};

constexpr Edge fixed(std::int64_t position) {
  return {false, position};
}
constexpr Edge from_query(std::int64_t offset) {
  return {true, offset};
}

inline std::int64_t right_of(const Pattern& pattern) {
  return pattern.causal ? 0 : pattern.window_right;
}

inline Edge last_key(const Pattern& pattern) {
  return pattern.causal ? from_query(1) : fixed(pattern.seq_len);
}

inline Interval document_of(const Pattern& pattern, std::int64_t i) {
  const auto& starts = pattern.document_starts;
  const auto next = std::upper_bound(starts.begin(), starts.end(), i);
  return {*(next - 1), next == starts.end() ? pattern.seq_len : *next};
}

/// Calls visit(queries, band) for pieces of `queries` in which the visible keys are one band; a query that
/// sees two intervals is visited twice. Together the visits hold every visible pair exactly once.
template <class Visit>
void for_each_band(const Pattern& pattern, Run queries, Visit visit) {
  const auto part = [&](Interval positions) { return queries.slice(queries.rows_in(positions)); };
  const auto visit_part = [&](Interval positions, Band band) {
    if (const Run piece = part(positions); !piece.empty()) visit(piece, band);
  };
  const Interval everything{0, pattern.seq_len};
  switch (pattern.kind) {
    case PatternKind::full:
      visit_part(everything, {fixed(0), last_key(pattern)});
      return;
    case PatternKind::local:
      visit_part(everything, {from_query(-pattern.window_left), from_query(right_of(pattern) + 1)});
      return;
    case PatternKind::global: {
      const std::int64_t g = pattern.global_tokens;
      const std::int64_t detached =
          g + pattern.window_left;  // from here on, a gap between globals and window
      const Edge window_end = from_query(right_of(pattern) + 1);
      visit_part({0, g}, {fixed(0), last_key(pattern)});
      visit_part({g, detached}, {fixed(0), window_end});
      visit_part({detached, pattern.seq_len}, {fixed(0), fixed(g)});
      visit_part({detached, pattern.seq_len}, {from_query(-pattern.window_left), window_end, 1});
      return;
    }
    case PatternKind::segment:
      for (std::int64_t row = 0; row < queries.count;) {
        const std::int64_t start = queries.at(row) / pattern.segment_length * pattern.segment_length;
        const Interval segment{start, start + pattern.segment_length};
        visit_part(segment, {fixed(start - pattern.memory_length), from_query(1)});
        row = queries.rows_before(segment.end);
      }
      return;
    case PatternKind::document:
      for (std::int64_t row = 0; row < queries.count;) {
        const Interval document = document_of(pattern, queries.at(row));
        visit_part(document, {fixed(document.begin), pattern.causal ? from_query(1) : fixed(document.end)});
        row = queries.rows_before(document.end);
      }
      return;
  }
}

}  // namespace longseq::detail
