// Ring: at step s a rank computes with the keys of the rank s places before it. They come from its neighbour,
// if that one needed them too, else straight from their owner: no rank receives keys that it does not see
// merely to pass them on. So a causal ring moves half of all keys with contiguous shards, three quarters with
// zigzag ones, and the work of each step stays as balanced as the layout makes it.
#include "drivers/sharding/planner.h"

namespace longseq {
namespace {

class RingPlanner {
 public:
  RingPlanner(const Problem& problem, int rank)
      : problem_(problem), layout_(problem.layout), ranks_(layout_.ranks), plan_(start_plan(problem, rank)) {}

  RankPlan make() {
    const Rows own_rows = all_rows(plan_.buffers[kOwnKeys]);
    int held = kOwnKeys;  // the buffer that this step computes with
    Rows held_rows = own_rows;
    for (int hop = 0; hop < ranks_; ++hop) {
      const auto index = static_cast<std::size_t>(hop);
      const int owner = around(plan_.rank - hop);
      if (!held_rows.empty())
        add_tiles(problem_, plan_, {.keys = held}, own_rows, step_at(plan_, index).tiles);
      if (hop + 1 == ranks_) break;
      pass_on(step_at(plan_, index), owner, held, held_rows);
      if (hop > 0) serve(step_at(plan_, index), around(plan_.rank + hop + 1));
      held_rows = receive(step_at(plan_, index), around(owner - 1), held);
    }
    place_buffers(problem_, plan_);
    return std::move(plan_);
  }

 private:
  int around(int rank) const { return (rank + 2 * ranks_) % ranks_; }

  bool needs(int rank, const Run& keys) const {
    for (const Run& queries : layout_.shard(rank)) {
      const VisibleKeys seen = problem_.pattern.keys_seen_by(queries);
      if (keys.rows_in(seen.first).empty() && keys.rows_in(seen.second).empty()) continue;
      if (queries.stride == 1 || !window_ || problem_.pattern.area(queries, keys) > 0) return true;
    }
    return false;
  }

  /// The positions seen by ranks [begin, end).
  void add_seen(int begin, int end, Rows& seen) const {
    for (const Run& queries : layout_.span(begin, end)) {
      const VisibleKeys keys = problem_.pattern.keys_seen_by(queries);
      seen.push_back(keys.first);
      seen.push_back(keys.second);
    }
  }

  /// The owner's rows that a rank receives: what it and those that it passes them on to see.
  struct Incoming {
    Rows passed;  // by its neighbour, which needed them too
    Rows served;  // by their owner
  };

  Incoming rows_to(int to, int owner) const {
    const int neighbour = around(to - 1);
    Incoming rows;
    std::int64_t first = 0;
    for (const Run& keys : layout_.shard(owner)) {
      const std::int64_t run_begin = first;
      first += keys.count;
      if (!needs(to, keys)) continue;
      Rows seen;
      if (to > owner) {
        add_seen(to, ranks_, seen);
        if (needs(ranks_ - 1, keys) && needs(0, keys)) add_seen(0, owner, seen);
      } else {
        add_seen(to, owner, seen);
      }
      const bool passed = neighbour == owner || needs(neighbour, keys);
      for (const Interval& part : rows_within({keys}, joined(std::move(seen)))) {
        (passed ? rows.passed : rows.served).push_back({run_begin + part.begin, run_begin + part.end});
      }
    }
    return {joined(std::move(rows.passed)), joined(std::move(rows.served))};
  }

  void pass_on(Step& step, int owner, int held, const Rows& held_rows) const {
    const int next = around(plan_.rank + 1);
    if (next == owner || held_rows.empty()) return;
    const Rows rows = rows_to(next, owner).passed;
    if (!rows.empty()) step.sends.push_back({next, held, within(held_rows, rows)});
  }

  /// Own keys for a rank whose neighbour has no use for them.
  void serve(Step& step, int to) const {
    if (to == plan_.rank) return;
    Rows rows = rows_to(to, plan_.rank).served;
    if (!rows.empty()) step.sends.push_back({to, kOwnKeys, std::move(rows)});
  }

  /// Receives what is needed of the owner's keys into a new buffer, if anything. Gives the owner's rows.
  Rows receive(Step& step, int owner, int& held) {
    const int neighbour = around(plan_.rank - 1);
    const auto [passed, served] = rows_to(plan_.rank, owner);
    Rows rows = passed;
    rows.insert(rows.end(), served.begin(), served.end());
    rows = joined(std::move(rows));
    if (rows.empty()) return rows;
    held = add_buffer(plan_, Payload::keys, owner, select(layout_.shard(owner), rows));
    if (!passed.empty()) step.receives.push_back({neighbour, held, within(rows, passed)});
    if (!served.empty()) step.receives.push_back({owner, held, within(rows, served)});
    return rows;
  }

  /// Where the owner's rows `wanted` lie in a buffer that holds its rows `held`.
  static Rows within(const Rows& held, const Rows& wanted) {
    Rows rows;
    std::int64_t first = 0;
    for (const Interval& interval : held) {
      for (const Interval& part : wanted) {
        const Interval common = intersect(interval, part);
        rows.push_back({first + common.begin - interval.begin, first + common.end - interval.begin});
      }
      first += interval.size();
    }
    return joined(std::move(rows));
  }

  const Problem& problem_;
  const Layout& layout_;
  int ranks_;
  // Between stripes keys_seen_by is only a hull: a window shorter than the stride passes most ranks by.
  bool window_ = problem_.pattern.kind == PatternKind::local || problem_.pattern.kind == PatternKind::global;
  RankPlan plan_;
};

}  // namespace

RankPlan plan_ring(const Problem& problem, int rank) {
  return RingPlanner(problem, rank).make();
}

}  // namespace longseq
