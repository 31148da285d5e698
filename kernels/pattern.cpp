#include "kernels/pattern.h"

#include <fmt/format.h>

#include <stdexcept>

#include "kernels/bands.h"

namespace longseq {

using detail::Band;
using detail::document_of;
using detail::Edge;
using detail::right_of;

namespace {

/// sum over t = 0..count-1 of clamp(first + t·step, 0, limit); step >= 0.
std::int64_t clamped_sum(std::int64_t first, std::int64_t step, std::int64_t count, std::int64_t limit) {
  if (step == 0) return count * std::clamp<std::int64_t>(first, 0, limit);
  const Run line{first, step, count};
  const Interval rising = line.rows_in({0, limit});
  const std::int64_t risen = rising.size();
  const std::int64_t rising_sum = risen * line.at(rising.begin) + step * (risen * (risen - 1) / 2);
  const std::int64_t beyond = count - line.rows_before(limit);
  return rising_sum + beyond * limit;
}

/// sum over the queries of the number of keys that lie before the edge.
std::int64_t keys_before(Run queries, Edge edge, Run keys) {
  if (!edge.follows_query) return queries.count * keys.rows_before(edge.offset);
  if (queries.stride % keys.stride == 0) {
    const std::int64_t distance = queries.start + edge.offset - keys.start;
    const std::int64_t floor =
        distance >= 0 ? distance / keys.stride : -((-distance + keys.stride - 1) / keys.stride);
    const std::int64_t first = floor + (distance - floor * keys.stride > 0 ? 1 : 0);
    return clamped_sum(first, queries.stride / keys.stride, queries.count, keys.count);
  }
  std::int64_t sum = 0;
  for (std::int64_t t = 0; t < queries.count; ++t) sum += keys.rows_before(queries.at(t) + edge.offset);
  return sum;
}

void expect(bool holds, std::string_view name, std::int64_t value, std::string_view expected) {
  if (!holds) throw std::invalid_argument(fmt::format("{} is {}; expected {}", name, value, expected));
}

}  // namespace

void Pattern::check() const {
  expect(seq_len >= 1, "seq-len", seq_len, "at least 1 token");
  expect(window_left >= 0, "window-left", window_left, "0 or more keys before the query");
  expect(window_right >= 0, "window-right", window_right, "0 or more keys after the query");
  if (kind == PatternKind::global) {
    expect(global_tokens >= 0 && global_tokens <= seq_len, "global-tokens", global_tokens,
           fmt::format("0 to seq-len = {}", seq_len));
  }
  if (kind == PatternKind::segment) {
    expect(segment_length >= 1, "segment-length", segment_length, "at least 1 token");
    expect(memory_length >= 0, "memory-length", memory_length, "0 or more tokens");
  }
  if (kind == PatternKind::document) {
    expect(!document_starts.empty() && document_starts.front() == 0, "the first document's start",
           document_starts.empty() ? -1 : document_starts.front(), "0");
    for (std::size_t d = 1; d < document_starts.size(); ++d) {
      expect(document_starts[d] > document_starts[d - 1], fmt::format("document start {}", d),
             document_starts[d], fmt::format("more than the start before it, {}", document_starts[d - 1]));
    }
    expect(document_starts.back() < seq_len, "the last document's start", document_starts.back(),
           fmt::format("less than seq-len = {}", seq_len));
  }
}

VisibleKeys Pattern::visible_keys(std::int64_t i) const {
  const Interval sequence{0, seq_len};
  const std::int64_t end = causal ? i + 1 : seq_len;
  const Interval window = intersect({i - window_left, i + right_of(*this) + 1}, sequence);
  switch (kind) {
    case PatternKind::full:
      return {{0, end}, {}};
    case PatternKind::local:
      return {window, {}};
    case PatternKind::global:
      if (i < global_tokens) return {{0, end}, {}};
      if (window.begin <= global_tokens) return {{0, window.end}, {}};
      return {{0, global_tokens}, window};
    case PatternKind::segment:
      return {intersect({i / segment_length * segment_length - memory_length, i + 1}, sequence), {}};
    case PatternKind::document: {
      const Interval document = document_of(*this, i);
      return {{document.begin, causal ? i + 1 : document.end}, {}};
    }
  }
  return {};
}

Cover Pattern::cover(Run queries, Run keys) const {
  const std::int64_t visible = area(queries, keys);
  if (visible == 0) return Cover::none;
  return visible == queries.count * keys.count ? Cover::full : Cover::partial;
}

VisibleKeys Pattern::keys_seen_by(Run queries) const {
  if (queries.empty()) return {};
  // But for global's first g rows, both ends of visible_keys grow with the query: the ends of the union
  // come from the first and the last query, and it has no gap, since a query sees its neighbourhood.
  if (kind == PatternKind::global && queries.start < global_tokens) {
    if (!causal) return {{0, seq_len}, {}};
    return {{0, queries.last() + 1}, {}};
  }
  const VisibleKeys low = visible_keys(queries.start);
  const VisibleKeys high = visible_keys(queries.last());
  if (low.second.empty()) return {{low.first.begin, std::max(high.first.end, high.second.end)}, {}};
  return {low.first, {low.second.begin, high.second.end}};
}

Interval Pattern::rows_that_see(Run queries, Run keys) const {
  const Interval all{0, queries.count};
  if (kind == PatternKind::full) return causal ? Interval{queries.rows_before(keys.start), all.end} : all;
  if (kind == PatternKind::global && keys.start < global_tokens) return all;
  // Both ends of what a query sees beside global tokens rise with its position, but for the first g, which
  // see everything.
  const auto first_where = [&](const auto& holds) {
    std::int64_t low = 0, high = queries.count;
    while (low < high) {
      const std::int64_t middle = (low + high) / 2;
      const VisibleKeys seen = visible_keys(queries.at(middle));
      holds(seen.second.empty() ? seen.first : seen.second) ? high = middle : low = middle + 1;
    }
    return low;
  };
  const bool from_first = kind == PatternKind::global && !causal && queries.start < global_tokens;
  return {from_first ? 0 : first_where([&](Interval seen) { return seen.end > keys.start; }),
          first_where([&](Interval seen) { return seen.begin > keys.last(); })};
}

Interval Pattern::distances() const {
  const Interval any{causal ? 0 : 1 - seq_len, seq_len};
  switch (kind) {
    case PatternKind::full:
      return any;
    case PatternKind::local:
      return intersect({-right_of(*this), window_left + 1}, any);
    case PatternKind::global:
      return global_tokens > 0 ? any : intersect({-right_of(*this), window_left + 1}, any);
    case PatternKind::segment:
      return intersect({0, segment_length + memory_length}, any);
    case PatternKind::document: {
      std::int64_t longest = 0;
      for (const std::int64_t start : document_starts)
        longest = std::max(longest, document_of(*this, start).size());
      return intersect({1 - longest, longest}, any);
    }
  }
  return any;
}

std::int64_t Pattern::area() const {
  return area({0, 1, seq_len}, {0, 1, seq_len});
}

std::int64_t Pattern::area(Run queries, Run keys) const {
  std::int64_t visible = 0;
  detail::for_each_band(*this, queries, [&](Run piece, Band band) {
    visible += keys_before(piece, band.high, keys) - keys_before(piece, band.low, keys);
  });
  return visible;
}

}  // namespace longseq
