#include "drivers/sharding/plan.h"

#include <algorithm>
#include <utility>

namespace longseq {
namespace {

/// Calls visit(run, rows of the buffer) for each run that has rows in `within`.
template <class Visit>
void for_each_run_within(const Shard& shard, const Rows& within, const Visit& visit) {
  for_each_run(shard, [&](const Run& run, std::int64_t first) {
    for (const Interval& interval : within) {
      const Interval rows = intersect(interval, {first, first + run.count});
      if (!rows.empty()) visit(run.slice(rows.shifted(-first)), rows);
    }
  });
}

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

/// Whether queries of one run see any key of another; between stripes, whether their hull does.
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

bool of_keys(Payload payload) {
  return payload == Payload::keys || payload == Payload::key_gradients;
}

std::int64_t width(const Problem& problem, Payload payload) {
  switch (payload) {
    case Payload::lse:
      return 1;
    case Payload::statistics:
      return 2;
    case Payload::partials:
      return problem.head_dim + 1;
    default:
      return problem.head_dim;
  }
}

std::int64_t row_bytes(const Problem& problem, Payload payload) {
  const bool stored = payload == Payload::keys || payload == Payload::queries ||
                      payload == Payload::outputs || payload == Payload::output_gradients;
  return width(problem, payload) * (stored ? problem.element_bytes : problem.accumulator_bytes);
}

std::int64_t planes(const Problem& problem, Payload payload, Interval heads) {
  return (of_keys(payload) ? 2 : 1) * problem.batch * heads.size();
}

std::int64_t bytes_per_row(const Problem& problem, Payload payload, Interval heads) {
  return planes(problem, payload, heads) * row_bytes(problem, payload);
}

Interval all_heads(const Problem& problem, Payload payload) {
  return {0, of_keys(payload) ? problem.kv_heads : problem.heads};
}

RankPlan start_plan(const Problem& problem, int rank) {
  constexpr Payload kOwn[kOwnBuffers] = {Payload::keys,
                                         Payload::queries,
                                         Payload::outputs,
                                         Payload::lse,
                                         Payload::output_gradients,
                                         Payload::statistics,
                                         Payload::query_gradients,
                                         Payload::key_gradients};
  RankPlan plan;
  plan.rank = rank;
  plan.own_heads = {0, problem.heads};
  const Shard shard = problem.layout.shard(rank);
  for (const Payload payload : kOwn) add_buffer(plan, payload, shard, all_heads(problem, payload));
  return plan;
}

int add_buffer(RankPlan& plan, Payload payload, Shard positions, Interval heads) {
  Buffer& buffer = plan.buffers.emplace_back();
  buffer.payload = payload;
  buffer.positions = std::move(positions);
  buffer.heads = heads;
  return static_cast<int>(plan.buffers.size()) - 1;
}

Transfer transfer(const RankPlan& plan, int peer, int buffer, Rows rows) {
  return {peer, buffer, std::move(rows), buffer_of(plan, buffer).heads};
}

Transfer transfer_all(const RankPlan& plan, int peer, int buffer) {
  return transfer(plan, peer, buffer, all_rows(buffer_of(plan, buffer)));
}

std::int64_t bytes_of(const Problem& problem, const Buffer& buffer) {
  return tokens_in(buffer.positions) * bytes_per_row(problem, buffer.payload, buffer.heads);
}

std::int64_t bytes_of(const Problem& problem, const RankPlan& plan, const Transfer& transfer) {
  return count_rows(transfer.rows) *
         bytes_per_row(problem, buffer_of(plan, transfer.buffer).payload, transfer.heads);
}

std::int64_t messages_of(const Problem& problem, const RankPlan& plan, const Transfer& transfer) {
  constexpr std::int64_t kLarge = 64 << 10;  // bytes
  const Payload payload = buffer_of(plan, transfer.buffer).payload;
  if (transfer.heads == all_heads(problem, payload)) return 1;
  const std::int64_t blocks = planes(problem, payload, {0, 1});
  return bytes_of(problem, plan, transfer) / blocks >= kLarge ? blocks : 1;
}

int own_results(const Problem& problem) {
  return problem.pass == Pass::forward ? kOwnOutputs : kOwnQueryGradients;
}

Step& step_at(RankPlan& plan, std::size_t index) {
  if (plan.steps.size() <= index) plan.steps.resize(index + 1);
  return plan.steps[index];
}

void add_tiles(const Problem& problem, const RankPlan& plan, Tile buffers, const Rows& query_rows,
               Tiles& tiles) {
  const Buffer& queries = buffer_of(plan, buffers.queries);
  const Buffer& keys = buffer_of(plan, buffers.keys);
  const Interval heads = buffers.heads.empty() ? queries.heads : buffers.heads;
  const Rows every_key = all_rows(keys);
  const bool divided = count_rows(query_rows) < tokens_in(queries.positions);
  for_each_run_within(queries.positions, query_rows, [&](Run query_run, Interval rows) {
    const VisibleKeys seen = problem.pattern.keys_seen_by(query_run);
    for_each_run_within(keys.positions, every_key, [&](Run key_run, Interval key_rows) {
      if (!sees_any(seen, key_run)) return;
      if (divided) {
        const Interval taken = keys_to_take(seen, key_run);
        key_rows = taken.shifted(key_rows.begin);
        key_run = key_run.slice(taken);
      }
      const Interval seeing = rows_to_take(problem.pattern, query_run, key_run);
      if (seeing.empty()) return;
      Tile tile = buffers;
      tile.query_rows = seeing.shifted(rows.begin);
      tile.query_positions = query_run.slice(seeing);
      tile.key_rows = key_rows;
      tile.key_positions = key_run;
      for_each_whole_group(problem, heads, [&](Interval part) {
        tile.heads = part;
        tiles.push_back(tile);
      });
    });
  });
}

Rows all_rows(const Buffer& buffer) {
  return rows_from({0, tokens_in(buffer.positions)});
}

bool sees_any(const Pattern& pattern, const Shard& queries, const Shard& keys) {
  return std::any_of(queries.begin(), queries.end(), [&](const Run& own) {
    const VisibleKeys seen = pattern.keys_seen_by(own);
    return std::any_of(keys.begin(), keys.end(), [&](const Run& run) { return sees_any(seen, run); });
  });
}

}  // namespace longseq
