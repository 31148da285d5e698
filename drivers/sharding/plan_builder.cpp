#include "drivers/sharding/plan_builder.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace longseq {
namespace {

/// Calls visit(part) for the parts of query heads in which all key heads serve equally many: whole groups,
/// and what is cut off at either end.
template <class Visit>
void for_each_whole_group(const Problem& problem, Interval heads, const Visit& visit) {
  const std::int64_t group = problem.group();
  const std::int64_t first_whole = std::min((heads.begin + group - 1) / group * group, heads.end);
  const std::int64_t last_whole = std::max(heads.end / group * group, first_whole);
  for (const Interval& part : {Interval{heads.begin, first_whole}, Interval{first_whole, last_whole},
                               Interval{last_whole, heads.end}}) {
    if (!part.empty()) visit(part);
  }
}

bool sees_any(const VisibleKeys& seen, const Run& keys) {
  return !keys.rows_in(seen.first).empty() || !keys.rows_in(seen.second).empty();
}

/// Rows of a tile: those that see some of the keys, where they are few: tiles of unlike rows are computed one
/// after the other. Of a stripe nearly all see some.
Interval rows_to_take(const Pattern& pattern, const Run& queries, const Run& keys) {
  const Interval all{0, queries.count};
  if (pattern.kind == PatternKind::full || queries.stride != 1) return all;
  const Interval seeing = pattern.rows_that_see(queries, keys);
  return 2 * seeing.size() <= all.size() ? seeing : all;
}

/// Keys of a tile whose queries are a part of their run: those that these see, where they are few, so that
/// each part gives the gradients of keys of its own.
Interval keys_to_take(const VisibleKeys& seen, const Run& keys) {
  const Interval all{0, keys.count};
  if (keys.stride != 1) return all;
  const Interval hull = hull_of(keys.rows_in(seen.first), keys.rows_in(seen.second));
  return 4 * hull.size() <= 3 * all.size() ? hull : all;
}

}  // namespace

SeeingRuns seeing_runs(const Pattern& pattern, ShardView shard, RowsView rows) {
  SeeingRuns runs;
  for_each_run(shard, [&](const Run& run, std::int64_t first) {
    for (const Interval& interval : rows) {
      const Interval inside = intersect(interval, {first, first + run.count});
      if (inside.empty()) continue;
      const Run queries = run.slice(inside.shifted(-first));
      runs.push_back({queries, inside, pattern.keys_seen_by(queries)});
    }
  });
  return runs;
}

bool sees_any(const Pattern& pattern, ShardView queries, ShardView keys) {
  return std::any_of(queries.begin(), queries.end(), [&](const Run& own) {
    const VisibleKeys seen = pattern.keys_seen_by(own);
    return std::any_of(keys.begin(), keys.end(), [&](const Run& run) { return sees_any(seen, run); });
  });
}

PlanBuilder::PlanBuilder(const Problem& problem, int rank) : problem_(problem) {
  constexpr Payload kOwn[kOwnBuffers] = {Payload::keys,
                                         Payload::queries,
                                         Payload::outputs,
                                         Payload::lse,
                                         Payload::output_gradients,
                                         Payload::statistics,
                                         Payload::query_gradients,
                                         Payload::key_gradients};
  plan_.rank = rank;
  plan_.own_heads = {0, problem.heads};
  const Shard shard = problem.layout.shard(rank);
  for (const Payload payload : kOwn) add_buffer(payload, shard, all_heads(problem, payload));
}

template <class T>
void PlanBuilder::List<T>::sort() {
  std::vector<std::size_t> order(steps.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return steps[a] < steps[b]; });
  List sorted;
  for (const std::size_t i : order) sorted.add(static_cast<std::size_t>(steps[i])) = elements[i];
  *this = std::move(sorted);
}

void PlanBuilder::reserve(std::size_t steps) {
  const std::size_t of_step = problem_.pass == Pass::backward ? 2 : 1;
  plan_.steps.reserve(steps);
  plan_.buffers.reserve(plan_.buffers.size() + steps * (2 * of_step - 1));
  plan_.runs.reserve(plan_.buffers.capacity());
  plan_.intervals.reserve(steps * (3 * of_step - 1));
  for (List<Transfer>* const transfers : {&sends_, &receives_}) {
    transfers->elements.reserve(steps * of_step);
    transfers->steps.reserve(steps * of_step);
  }
  tiles_.elements.reserve(steps);
  tiles_.steps.reserve(steps);
}

int PlanBuilder::add_buffer(Payload payload, ShardView positions, Interval heads) {
  return add_buffer(payload, positions, rows_from({0, tokens_in(positions)}), heads);
}

int PlanBuilder::add_buffer(Payload payload, ShardView shard, RowsView rows, Interval heads) {
  Buffer& buffer = plan_.buffers.emplace_back();
  buffer.payload = payload;
  buffer.heads = heads;
  buffer.rows = count_rows(rows);
  buffer.positions.begin = static_cast<std::int32_t>(plan_.runs.size());
  for_each_selected_run(shard, rows, [&](const Run& run) { plan_.runs.push_back(run); });
  buffer.positions.end = static_cast<std::int32_t>(plan_.runs.size());
  return static_cast<int>(plan_.buffers.size()) - 1;
}

int PlanBuilder::add_buffer_at(std::int64_t offset, Payload payload, ShardView positions, Interval heads) {
  const int index = add_buffer(payload, positions, heads);
  plan_.buffers.back().offset = offset;
  return index;
}

Slice PlanBuilder::append(RowsView rows) {
  const auto begin = static_cast<std::int32_t>(plan_.intervals.size());
  for (const Interval& interval : rows) plan_.intervals.push_back(interval);
  return {begin, static_cast<std::int32_t>(plan_.intervals.size())};
}

void PlanBuilder::fill(Transfer& transfer, int peer, int buffer, RowsView rows, Interval heads) {
  transfer.peer = peer;
  transfer.buffer = buffer;
  transfer.rows = append(rows);
  transfer.heads = heads.empty() ? this->buffer(buffer).heads : heads;
}

void PlanBuilder::merge(std::size_t step, int from, int into, RowsView into_rows) {
  step_at(step);
  Merge& merge = merges_.add(step);
  merge.from = from;
  merge.into = into;
  merge.rows = append(into_rows);
}

void PlanBuilder::deliver(int from, RowsView own_rows) {
  plan_.deliveries.push_back({from, append(own_rows)});
}

bool PlanBuilder::compute(std::size_t step, const Tile& buffers, RowsView query_rows) {
  return compute(step, buffers, seeing_runs(problem_.pattern, positions_of(buffers.queries), query_rows));
}

bool PlanBuilder::compute(std::size_t step, const Tile& buffers, const SeeingRuns& queries) {
  step_at(step);
  std::int64_t query_rows = 0;
  for (const SeeingRun& own : queries) query_rows += own.rows.size();
  const bool divided = query_rows < buffer(buffers.queries).rows;
  const Interval heads = buffers.heads.empty() ? buffer(buffers.queries).heads : buffers.heads;
  const std::size_t before = tiles_.elements.size();
  for (const SeeingRun& own : queries) {
    for_each_run(positions_of(buffers.keys), [&](const Run& keys, std::int64_t first) {
      if (!sees_any(own.seen, keys)) return;
      const Interval taken = divided ? keys_to_take(own.seen, keys) : Interval{0, keys.count};
      const Run taken_keys = keys.slice(taken);
      const Interval seeing = rows_to_take(problem_.pattern, own.queries, taken_keys);
      if (seeing.empty()) return;
      for_each_whole_group(problem_, heads, [&](Interval part) {
        Tile& tile = tiles_.add(step);
        tile = buffers;
        tile.query_rows = seeing.shifted(own.rows.begin);
        tile.query_positions = own.queries.slice(seeing);
        tile.key_rows = taken.shifted(first);
        tile.key_positions = taken_keys;
        tile.heads = part;
      });
    });
  }
  return tiles_.elements.size() > before;
}

template <class T>
std::vector<T> PlanBuilder::in_order(List<T>& list, Slice Step::*slice) {
  if (!std::is_sorted(list.steps.begin(), list.steps.end())) list.sort();
  for (std::size_t i = 0; i < list.steps.size(); ++i) {
    Slice& own = plan_.steps[static_cast<std::size_t>(list.steps[i])].*slice;
    if (own.end == 0) own.begin = static_cast<std::int32_t>(i);
    own.end = static_cast<std::int32_t>(i + 1);
  }
  return std::move(list.elements);
}

RankPlan PlanBuilder::finish() {
  plan_.sends = in_order(sends_, &Step::sends);
  plan_.receives = in_order(receives_, &Step::receives);
  plan_.tiles = in_order(tiles_, &Step::tiles);
  plan_.merges = in_order(merges_, &Step::merges);
  place_buffers(problem_, plan_);
  return std::move(plan_);
}

}  // namespace longseq
