#include "drivers/sharding/plan.h"

#include <algorithm>
#include <limits>

namespace longseq {
namespace {

constexpr std::int64_t kArenaAlignment = 64;

struct Lifetime {
  std::size_t first = std::numeric_limits<std::size_t>::max();
  std::size_t last = 0;

  void use(std::size_t step) {
    first = std::min(first, step);
    last = std::max(last, step);
  }
};

std::vector<Lifetime> lifetimes(const RankPlan& plan) {
  std::vector<Lifetime> life(plan.buffers.size());
  for (std::size_t s = 0; s < plan.steps.size(); ++s) {
    const Step& step = plan.steps[s];
    for (const Transfer& transfer : step.sends) life[static_cast<std::size_t>(transfer.buffer)].use(s);
    for (const Transfer& transfer : step.receives) life[static_cast<std::size_t>(transfer.buffer)].use(s);
    for (const Tile& tile : step.tiles) {
      life[static_cast<std::size_t>(tile.queries)].use(s);
      life[static_cast<std::size_t>(tile.keys)].use(s);
      if (tile.into >= 0) life[static_cast<std::size_t>(tile.into)].use(s);
    }
    for (const Merge& merge : step.merges) {
      life[static_cast<std::size_t>(merge.from)].use(s);
      life[static_cast<std::size_t>(merge.into)].use(s);
    }
  }
  for (const Delivery& delivery : plan.deliveries)
    life[static_cast<std::size_t>(delivery.from)].use(plan.steps.size());
  return life;
}

/// Calls visit(run, rows of the buffer) for each run that has rows in `within`.
template <class Visit>
void for_each_run_within(const Shard& shard, const Rows& within, const Visit& visit) {
  for_each_run(shard, [&](const Run& run, std::int64_t first) {
    for (const Interval& interval : within) {
      const Interval rows = intersect(interval, {first, first + run.count});
      if (!rows.empty()) visit(run.slice({rows.begin - first, rows.end - first}), rows);
    }
  });
}

/// The lowest offset at which `size` bytes lie clear of all placed buffers.
template <class Bytes>
std::int64_t first_fit(const RankPlan& plan, const std::vector<std::size_t>& placed, const Bytes& bytes,
                       std::int64_t size) {
  Rows taken;
  for (const std::size_t other : placed) {
    taken.push_back({plan.buffers[other].offset, plan.buffers[other].offset + bytes(plan.buffers[other])});
  }
  std::int64_t offset = 0;
  for (const Interval& interval : joined(std::move(taken))) {
    if (offset + size <= interval.begin) break;
    offset = interval.end;
  }
  return offset;
}

}  // namespace

std::int64_t planes(const Problem& problem, Payload payload) {
  return payload == Payload::keys ? 2 * problem.batch * problem.kv_heads : problem.batch * problem.heads;
}

std::int64_t width(const Problem& problem, Payload payload) {
  return payload == Payload::partials ? problem.head_dim + 1 : problem.head_dim;
}

std::int64_t bytes_per_row(const Problem& problem, Payload payload) {
  const std::int64_t bytes = payload == Payload::partials ? problem.accumulator_bytes : problem.element_bytes;
  return planes(problem, payload) * width(problem, payload) * bytes;
}

RankPlan start_plan(const Problem& problem, int rank) {
  RankPlan plan;
  plan.rank = rank;
  const Shard shard = problem.layout.shard(rank);
  add_buffer(plan, Payload::keys, rank, shard);
  add_buffer(plan, Payload::queries, rank, shard);
  return plan;
}

int add_buffer(RankPlan& plan, Payload payload, int owner, Shard positions) {
  plan.buffers.push_back({payload, owner, std::move(positions), -1});
  return static_cast<int>(plan.buffers.size()) - 1;
}

Step& step_at(RankPlan& plan, std::size_t index) {
  if (plan.steps.size() <= index) plan.steps.resize(index + 1);
  return plan.steps[index];
}

void add_tiles(const Problem& problem, const RankPlan& plan, Tile buffers, const Rows& query_rows,
               std::vector<Tile>& tiles) {
  const Buffer& queries = plan.buffers[static_cast<std::size_t>(buffers.queries)];
  const Buffer& keys = plan.buffers[static_cast<std::size_t>(buffers.keys)];
  const Rows every_key = all_rows(keys);
  for_each_run_within(queries.positions, query_rows, [&](Run query_run, Interval rows) {
    const VisibleKeys seen = problem.pattern.keys_seen_by(query_run);
    for_each_run_within(keys.positions, every_key, [&](Run key_run, Interval key_rows) {
      if (key_run.rows_in(seen.first).empty() && key_run.rows_in(seen.second).empty()) return;
      Tile tile = buffers;
      tile.query_rows = rows;
      tile.key_rows = key_rows;
      tiles.push_back(tile);
    });
  });
}

Rows all_rows(const Buffer& buffer) {
  return joined({{0, tokens_in(buffer.positions)}});
}

void place_buffers(const Problem& problem, RankPlan& plan) {
  const std::vector<Lifetime> life = lifetimes(plan);
  const auto bytes = [&](const Buffer& buffer) {
    const std::int64_t exact = tokens_in(buffer.positions) * bytes_per_row(problem, buffer.payload);
    return (exact + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment;
  };
  std::vector<std::size_t> by_first_use;
  for (std::size_t i = kOwnQueries + 1; i < plan.buffers.size(); ++i) by_first_use.push_back(i);
  std::stable_sort(by_first_use.begin(), by_first_use.end(),
                   [&](std::size_t a, std::size_t b) { return life[a].first < life[b].first; });
  std::vector<std::size_t> placed;  // those that a buffer of later first use may still meet
  std::size_t first_to_end = std::numeric_limits<std::size_t>::max();
  std::int64_t top = 0;  // the end of what is placed
  bool gaps = false;     // something below `top` is free again
  for (const std::size_t i : by_first_use) {
    Buffer& buffer = plan.buffers[i];
    const std::int64_t size = bytes(buffer);
    if (first_to_end < life[i].first) {
      gaps = true;
      std::erase_if(placed, [&](std::size_t other) { return life[other].last < life[i].first; });
      first_to_end = std::numeric_limits<std::size_t>::max();
      for (const std::size_t other : placed) first_to_end = std::min(first_to_end, life[other].last);
    }
    if (buffer.offset < 0) buffer.offset = gaps ? first_fit(plan, placed, bytes, size) : top;
    placed.push_back(i);
    first_to_end = std::min(first_to_end, life[i].last);
    top = std::max(top, buffer.offset + size);
  }
  plan.arena_bytes = top;
}

Run positions_of(const Buffer& buffer, Interval rows) {
  const Shard part = select(buffer.positions, {rows});
  return part.empty() ? Run{} : part.front();
}

}  // namespace longseq
