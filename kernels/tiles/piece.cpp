#include <algorithm>

#include "kernels/tiles/tile.h"

namespace longseq::detail {
namespace {

/// The keys of each group, cut to the piece; an empty one lies at the end from which it is not seen, so that
/// the bounds rise from group to group wherever the pattern's do.
void cut_groups(const Outlook& outlook, Interval keys, std::int64_t granule, Piece& piece) {
  for (int g = 0; g < kMostGroups; ++g) {
    const std::int64_t end = keys.begin + (keys.size() + granule - 1) / granule * granule;
    piece.group_keys[g] = {end, end};
    if (g >= outlook.count) continue;
    const Outlook::Group& group = outlook.groups[g];
    const Interval seen = hull_of(intersect(keys, group.hull[0]), intersect(keys, group.hull[1]));
    if (!seen.empty()) {
      const std::int64_t before = (seen.begin - keys.begin) / granule * granule;
      const std::int64_t count = (seen.end - keys.begin + granule - 1) / granule * granule - before;
      piece.group_keys[g] = {keys.begin + before, keys.begin + before + count};
    } else if (hull_of(group.hull[0], group.hull[1]).end <= keys.begin) {
      piece.group_keys[g] = {keys.begin, keys.begin};
    }
  }
}

bool rises(const Interval (&group_keys)[kMostGroups]) {
  for (int g = 1; g < kMostGroups; ++g) {
    if (group_keys[g].begin < group_keys[g - 1].begin || group_keys[g].end < group_keys[g - 1].end)
      return false;
  }
  return true;
}

bool all_see(const Outlook& outlook, const Span& span) {
  for (std::int64_t g = span.first_lane / kLaneGroup; g < span.last_lane / kLaneGroup; ++g) {
    const Outlook::Group& group = outlook.groups[g];
    if (intersect(span.keys, group.core[0]) != span.keys && intersect(span.keys, group.core[1]) != span.keys)
      return false;
  }
  return true;
}

void add_span(const Outlook& outlook, Piece& piece, Interval keys, std::int64_t first, std::int64_t last) {
  if (keys.empty() || first >= last) return;
  Span span{keys, first * kLaneGroup, last * kLaneGroup, false};
  span.masked = !all_see(outlook, span);
  piece.spans[piece.span_count++] = span;
}

}  // namespace

bool cut(const Outlook& outlook, Interval keys, std::int64_t granule, Piece& piece) {
  if (intersect(keys, outlook.hull[0]).empty() && intersect(keys, outlook.hull[1]).empty()) return false;
  piece.keys = {};
  piece.span_count = 0;
  cut_groups(outlook, keys, granule, piece);
  for (int g = 0; g < outlook.count; ++g) piece.keys = hull_of(piece.keys, piece.group_keys[g]);
  if (piece.keys.empty()) return false;
  if (!rises(piece.group_keys)) {
    for (int g = 0; g < kMostGroups; ++g) piece.group_keys[g] = g < outlook.count ? piece.keys : Interval{};
    add_span(outlook, piece, piece.keys, 0, outlook.count);
    return true;
  }
  // Between two bounds the same groups take part; as bounds rise, they are neighbours. What all see is cut
  // out, too: it needs no mask.
  std::int64_t begin = piece.keys.begin;
  while (begin < piece.keys.end) {
    std::int64_t end = piece.keys.end;
    for (const Interval& core : outlook.core) {
      if (core.empty()) continue;
      if (core.begin > begin) end = std::min(end, core.begin);
      if (core.end > begin) end = std::min(end, core.end);
    }
    int first = 0, last = 0;
    bool any = false;
    for (int g = 0; g < outlook.count; ++g) {
      const Interval& own = piece.group_keys[g];
      if (own.begin > begin) end = std::min(end, own.begin);
      if (own.end > begin) end = std::min(end, own.end);
      if (!own.contains(begin)) continue;
      if (!any) first = g;
      any = true;
      last = g + 1;
    }
    if (any) add_span(outlook, piece, {begin, end}, first, last);
    begin = end;
  }
  return true;
}

}  // namespace longseq::detail
