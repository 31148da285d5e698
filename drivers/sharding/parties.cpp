#include "drivers/sharding/parties.h"

#include <algorithm>

namespace longseq {

Rows Incoming::all() const {
  if (served.empty()) return passed;
  if (passed.empty()) return served;
  Rows rows = passed;
  rows.insert(rows.end(), served.begin(), served.end());
  join(rows);
  return rows;
}

Parties::Parties(const Problem& problem, int degree)
    : pattern_(problem.pattern),
      layout_(problem.layout),
      degree_(degree),
      count_(problem.layout.ranks / degree),
      everything_(pattern_.kind == PatternKind::full && !pattern_.causal),
      windows_(pattern_.kind == PatternKind::local || pattern_.kind == PatternKind::global) {
  shards_.reserve(static_cast<std::size_t>(count_));
  views_.reserve(shards_.capacity());
  for (int party = 0; party < count_; ++party) {
    shards_.push_back(positions_of(party));
    views_.emplace_back();
    for (const Run& queries : shards_.back())
      views_.back().push_back({queries, pattern_.keys_seen_by(queries)});
  }
}

Shard Parties::positions_of(int party) const {
  const int first = rank_of(party, 0), end = rank_of(party + 1, 0);
  if (layout_.kind != LayoutKind::striped) return layout_.span(first, end);
  Shard shard;
  for (int rank = first; rank < end; ++rank) {
    for (const Run& run : layout_.shard(rank)) shard.push_back(run);
  }
  return shard;
}

Rows Parties::rows_of(int party, int member) const {
  if (layout_.kind == LayoutKind::striped) {
    // Tokens of all ranks before a rank, as if they lay side by side.
    const auto before = [&](int rank) { return part_of(layout_.seq_len, layout_.ranks, rank).begin; };
    const int rank = rank_of(party, member);
    const std::int64_t first = before(rank_of(party, 0));
    return rows_from({before(rank) - first, before(rank + 1) - first});
  }
  Rows positions;
  for (const Run& run : layout_.shard(rank_of(party, member)))
    positions.push_back({run.start, run.start + run.count});
  return rows_within(shard(party), positions);
}

std::array<Rows, 2> Parties::portions(int party, int member) const {
  const Rows all = rows_from({0, tokens_in(shard(party))});
  if (degree_ == 1) return {all, Rows{}};
  const Rows own = rows_of(party, member);
  return {own, difference(all, own)};
}

/// Between stripes keys_seen_by is only a hull: a window shorter than the stride passes most ranks by, and is
/// asked exactly.
Parties::Need Parties::need(int party, const Run& keys) const {
  const auto& views = views_[static_cast<std::size_t>(party)];
  if (everything_) return views.empty() ? Need::none : Need::all;
  Need most = Need::none;
  for (const View& view : views) {
    const bool exact = view.queries.stride == 1 || !windows_;
    if (exact && view.keys.first.contains(keys.start) && view.keys.first.contains(keys.last()))
      return Need::all;
    const Interval first = keys.rows_in(view.keys.first);
    if (first.empty() && keys.rows_in(view.keys.second).empty()) continue;
    if (!exact && pattern_.area(view.queries, keys) == 0) continue;
    if (first.size() == keys.count) return Need::all;
    most = Need::some;
  }
  return most;
}

/// The positions seen by parties [begin, end).
void Parties::add_seen(int begin, int end, Rows& seen) const {
  for (const Run& queries : layout_.span(rank_of(begin, 0), rank_of(end, 0))) {
    const VisibleKeys keys = pattern_.keys_seen_by(queries);
    seen.push_back(keys.first);
    seen.push_back(keys.second);
  }
}

Incoming Parties::rows_to(int to, int owner) const {
  const int neighbour = around(to - 1);
  Incoming rows;
  for_each_run(shard(owner), [&](const Run& keys, std::int64_t first) {
    const Need own = need(to, keys);
    if (own == Need::none) return;
    Rows& part = neighbour == owner || needs(neighbour, keys) ? rows.passed : rows.served;
    if (own == Need::all) {  // whoever comes after cannot want more
      append(part, {first, first + keys.count});
      return;
    }
    Rows seen;
    if (to > owner) {
      add_seen(to, count_, seen);
      if (needs(count_ - 1, keys) && needs(0, keys)) add_seen(0, owner, seen);
    } else {
      add_seen(to, owner, seen);
    }
    join(seen);
    for (const Interval& within : rows_within({&keys, 1}, seen)) append(part, within.shifted(first));
  });
  return rows;
}

bool Parties::serves_nothing(int to, int owner) const {
  const int neighbour = around(to - 1);
  const Shard& keys = shard(owner);
  return neighbour != owner &&
         std::all_of(keys.begin(), keys.end(), [&](const Run& run) { return needs(neighbour, run); });
}

}  // namespace longseq
