#include "drivers/sharding/layout.h"

#include <algorithm>

#include "drivers/sharding/row_named.h"

namespace longseq {
namespace {

std::int64_t part_start(std::int64_t total, std::int64_t parts, std::int64_t index) {
  return total / parts * index + std::min(total % parts, index);
}

void append(Shard& shard, std::int64_t begin, std::int64_t end) {
  if (begin >= end) return;
  if (!shard.empty() && shard.back().stride == 1 && shard.back().start + shard.back().count == begin) {
    shard.back().count += end - begin;
  } else {
    shard.push_back({begin, 1, end - begin});
  }
}

/// The usual case: nothing empty, and gaps between all.
bool is_joined(const Rows& rows) {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (rows[i].empty() || (i > 0 && rows[i].begin <= rows[i - 1].end)) return false;
  }
  return true;
}

}  // namespace

LayoutKind layout_kind(std::string_view name) {
  return row_named(kLayouts, "layout", name).kind;
}

Shard Layout::shard(int rank) const {
  if (kind != LayoutKind::striped) return span(rank, rank + 1);
  const std::int64_t count = (seq_len - rank + ranks - 1) / ranks;
  return count > 0 ? Shard{{rank, ranks, count}} : Shard{};
}

Shard Layout::span(int begin, int end) const {
  Shard positions;
  if (begin >= end) return positions;
  switch (kind) {
    case LayoutKind::contiguous:
      append(positions, part_start(seq_len, ranks, begin), part_start(seq_len, ranks, end));
      break;
    case LayoutKind::zigzag: {
      const std::int64_t chunks = 2 * static_cast<std::int64_t>(ranks);
      append(positions, part_start(seq_len, chunks, begin), part_start(seq_len, chunks, end));
      append(positions, part_start(seq_len, chunks, chunks - end),
             part_start(seq_len, chunks, chunks - begin));
      break;
    }
    case LayoutKind::striped: {
      std::int64_t last = -1;  // ranks near `end` may lack the last, incomplete stripe
      for (int rank = end - 1; rank >= begin && rank > end - 3; --rank) {
        if (const Shard own = shard(rank); !own.empty()) last = std::max(last, own.back().last());
      }
      const std::int64_t in_last_stripe = (seq_len - 1) % ranks;
      if (in_last_stripe >= begin && in_last_stripe < end) last = seq_len - 1;
      append(positions, begin, last + 1);
      break;
    }
  }
  return positions;
}

void join(Rows& rows) {
  if (is_joined(rows)) return;
  rows.erase(
      std::remove_if(rows.begin(), rows.end(), [](const Interval& interval) { return interval.empty(); }),
      rows.end());
  std::sort(rows.begin(), rows.end(), [](const Interval& a, const Interval& b) { return a.begin < b.begin; });
  auto last = rows.begin();
  for (const Interval& interval : rows) {
    if (interval.begin <= last->end) {
      last->end = std::max(last->end, interval.end);
    } else {
      *++last = interval;
    }
  }
  if (!rows.empty()) rows.erase(last + 1, rows.end());
}

Rows intersect(RowsView a, RowsView b) {
  Rows common;
  for (const Interval& interval : a) {
    for (const Interval& other : b) {
      if (const Interval both = intersect(interval, other); !both.empty()) common.push_back(both);
    }
  }
  return common;
}

Rows difference(RowsView rows, RowsView without) {
  Rows left;
  for (Interval interval : rows) {
    for (const Interval& taken : without) {
      if (taken.end <= interval.begin || taken.begin >= interval.end) continue;
      if (taken.begin > interval.begin) left.push_back({interval.begin, taken.begin});
      interval.begin = taken.end;
    }
    if (!interval.empty()) left.push_back(interval);
  }
  return left;
}

Interval part_of(std::int64_t total, std::int64_t parts, std::int64_t index) {
  return {part_start(total, parts, index), part_start(total, parts, index + 1)};
}

Rows rows_within(ShardView shard, RowsView positions) {
  Rows rows;
  for_each_run(shard, [&](const Run& run, std::int64_t first) {
    for (const Interval& interval : positions) {
      const Interval inside = run.rows_in(interval);
      rows.push_back(inside.shifted(first));
    }
  });
  join(rows);
  return rows;
}

Shard select(ShardView shard, RowsView rows) {
  Shard selected;
  for_each_selected_run(shard, rows, [&](const Run& run) { selected.push_back(run); });
  return selected;
}

}  // namespace longseq
