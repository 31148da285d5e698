#include "drivers/sharding/audit.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <stdexcept>

namespace longseq {

std::int64_t RankAudit::bytes_sent() const {
  return std::accumulate(bytes_to.begin(), bytes_to.end(), std::int64_t{0});
}

std::int64_t RankAudit::messages_sent() const {
  return std::accumulate(messages_to.begin(), messages_to.end(), std::int64_t{0});
}

namespace {

std::int64_t pairs(const Problem& problem, const RankPlan& plan) {
  const Pattern& pattern = problem.pattern;
  const bool pieces = pattern.kind == PatternKind::segment || pattern.kind == PatternKind::document;
  if (pieces && problem.layout.kind == LayoutKind::striped) {
    // A striped tile has a piece for each segment of the whole sequence: too many to visit for each pair of
    // ranks. Rows that are not joined across ranks are computed whole by their owner, so its rows tell the
    // same sum.
    std::int64_t sum = 0;
    for (const Run& run : plan.buffers[kOwnQueries].positions)
      sum += pattern.area(run, {0, 1, pattern.seq_len});
    return sum;
  }
  std::int64_t sum = 0;
  for (const Step& step : plan.steps) {
    for (const Tile& tile : step.tiles) {
      sum += pattern.area(positions_of(plan.buffers[static_cast<std::size_t>(tile.queries)], tile.query_rows),
                          positions_of(plan.buffers[static_cast<std::size_t>(tile.keys)], tile.key_rows));
    }
  }
  return sum;
}

}  // namespace

RankAudit audit(const Problem& problem, const RankPlan& plan) {
  const auto ranks = static_cast<std::size_t>(problem.layout.ranks);
  RankAudit result;
  result.bytes_to.assign(ranks, 0);
  result.messages_to.assign(ranks, 0);
  const std::int64_t rows = tokens_in(plan.buffers[kOwnQueries].positions);
  for (const Step& step : plan.steps) {
    for (const Transfer& send : step.sends) {
      const Buffer& buffer = plan.buffers[static_cast<std::size_t>(send.buffer)];
      result.bytes_to[static_cast<std::size_t>(send.peer)] +=
          count_rows(send.rows) * bytes_per_row(problem, buffer.payload);
      result.messages_to[static_cast<std::size_t>(send.peer)] += 1;
    }
    if (step.allgather_keys && rows > 0) {  // counted as if the own block went to each other rank
      for (int peer = 0; peer < problem.layout.ranks; ++peer) {
        if (peer == plan.rank) continue;
        result.bytes_to[static_cast<std::size_t>(peer)] += rows * bytes_per_row(problem, Payload::keys);
        result.messages_to[static_cast<std::size_t>(peer)] += 1;
      }
    }
  }
  result.rows = rows;
  result.pairs = pairs(problem, plan);
  const std::int64_t state_bytes =
      3 * problem.batch * problem.heads * problem.accumulator_bytes;  // maximum, sum, lse
  const std::int64_t output_bytes =
      problem.batch * problem.heads * problem.head_dim * problem.accumulator_bytes;
  result.tensor_bytes = rows * (bytes_per_row(problem, Payload::keys) +
                                bytes_per_row(problem, Payload::queries) + output_bytes + state_bytes);
  result.arena_bytes = plan.arena_bytes;
  return result;
}

double forward_flops(const Problem& problem, std::int64_t pairs) {
  return 4.0 * static_cast<double>(pairs) *
         static_cast<double>(problem.batch * problem.heads * problem.head_dim);
}

double PlanAudit::balance() const {
  if (most_pairs == 0) return 1.0;
  return static_cast<double>(pairs) / static_cast<double>(ranks) / static_cast<double>(most_pairs);
}

void PlanAudit::add(const RankAudit& rank, std::int64_t rank_steps) {
  ranks += 1;
  pairs += rank.pairs;
  most_pairs = std::max(most_pairs, rank.pairs);
  const std::int64_t sent = rank.bytes_sent();
  bytes_sent += sent;
  most_bytes_sent = std::max(most_bytes_sent, sent);
  messages_sent += rank.messages_sent();
  total_memory_bytes += rank.tensor_bytes + rank.arena_bytes;
  steps = std::max(steps, rank_steps);
}

void expect_every_pair(const Problem& problem, std::int64_t pairs_of_all_ranks) {
  const std::int64_t expected = problem.pattern.area();
  if (pairs_of_all_ranks == expected) return;
  throw std::logic_error(fmt::format("the plan computes {} visible pairs; expected {}: a planner is wrong",
                                     pairs_of_all_ranks, expected));
}

}  // namespace longseq
