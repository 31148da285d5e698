#include "drivers/sharding/audit.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <set>
#include <stdexcept>
#include <tuple>
#include <vector>

namespace longseq {

std::int64_t RankAudit::bytes_sent() const {
  return std::accumulate(bytes_to.begin(), bytes_to.end(), std::int64_t{0});
}

std::int64_t RankAudit::messages_sent() const {
  return std::accumulate(messages_to.begin(), messages_to.end(), std::int64_t{0});
}

namespace {

/// Counts the visible pairs of tiles.
class Pairs {
 public:
  explicit Pairs(const Problem& problem)
      : pattern_(problem.pattern),
        by_rows_(problem.layout.kind == LayoutKind::striped &&
                 (pattern_.kind == PatternKind::segment || pattern_.kind == PatternKind::document)) {}

  void add(const Tile& tile) {
    if (by_rows_ && !counted_.emplace(tile.queries, tile.query_rows.begin, tile.heads.begin).second) return;
    const Run keys = by_rows_ ? Run{0, 1, pattern_.seq_len} : tile.key_positions;
    sum_ += tile.heads.size() * pattern_.area(tile.query_positions, keys);
  }
  std::int64_t sum() const { return sum_; }

 private:
  const Pattern& pattern_;
  // A striped tile has a piece for each segment of the whole sequence: too many to visit for each pair of
  // ranks. Rows of such patterns are never joined across ranks, but computed whole where they are computed
  // first; so rows tell the same sum.
  bool by_rows_;
  std::set<std::tuple<int, std::int64_t, std::int64_t>> counted_;  // queries, first row, first head
  std::int64_t sum_ = 0;
};

/// Own tensors that the pass reads or writes.
std::int64_t tensor_bytes(const Problem& problem, const RankPlan& plan) {
  const std::int64_t rows = buffer_of(plan, kOwnQueries).rows;
  const int used = problem.pass == Pass::forward ? kOwnOutputGradients : kOwnBuffers;
  std::int64_t bytes = 0;
  for (int buffer = 0; buffer < used; ++buffer) {
    const Payload payload = buffer_of(plan, buffer).payload;
    bytes += rows * bytes_per_row(problem, payload, all_heads(problem, payload));
  }
  return bytes;
}

/// Forward: maximum and sum of each row of the buffers that tiles write into, and where storage is narrower
/// than the accumulator, the outputs before they are rounded.
std::int64_t state_bytes(const Problem& problem, const RankPlan& plan, const std::vector<bool>& results) {
  if (problem.pass == Pass::backward) return 0;
  std::int64_t numbers = 0;
  for (std::size_t buffer = 0; buffer < results.size(); ++buffer) {
    if (!results[buffer]) continue;
    const Buffer& result = plan.buffers[buffer];
    const bool rounded =
        problem.element_bytes < problem.accumulator_bytes && result.payload != Payload::partials;
    const Interval heads = buffer == kOwnOutputs ? plan.own_heads : result.heads;
    numbers += result.rows * heads.size() * (2 + (rounded ? problem.head_dim : 0));
  }
  return numbers * problem.batch * problem.accumulator_bytes;
}

}  // namespace

RankAudit audit(const Problem& problem, const RankPlan& plan) {
  const auto ranks = static_cast<std::size_t>(problem.layout.ranks);
  RankAudit result;
  result.bytes_to.assign(ranks, 0);
  result.messages_to.assign(ranks, 0);
  const std::int64_t rows = buffer_of(plan, kOwnQueries).rows;
  Pairs pairs(problem);
  std::vector<bool> results(plan.buffers.size());  // that tiles write into
  results[kOwnOutputs] = true;
  for (const Tile& tile : plan.tiles) {
    pairs.add(tile);
    results[static_cast<std::size_t>(tile.into)] = true;
  }
  for (const Transfer& send : plan.sends) {
    result.bytes_to[static_cast<std::size_t>(send.peer)] += bytes_of(problem, plan, send);
    result.messages_to[static_cast<std::size_t>(send.peer)] += messages_of(problem, plan, send);
  }
  for (const Step& step : plan.steps) {
    if (step.allgather_keys && rows > 0) {  // counted as if the own block went to each other rank
      for (int peer = 0; peer < problem.layout.ranks; ++peer) {
        if (peer == plan.rank) continue;
        result.bytes_to[static_cast<std::size_t>(peer)] +=
            rows * bytes_per_row(problem, Payload::keys, all_heads(problem, Payload::keys));
        result.messages_to[static_cast<std::size_t>(peer)] += 1;
      }
    }
  }
  result.rows = rows;
  result.pairs = pairs.sum();
  result.tensor_bytes = tensor_bytes(problem, plan);
  result.state_bytes = state_bytes(problem, plan, results);
  result.arena_bytes = plan.arena_bytes;
  return result;
}

double pass_flops(const Problem& problem, std::int64_t pairs) {
  const double products =
      problem.pass == Pass::forward ? (problem.relative ? 3.0 : 2.0) : (problem.relative ? 8.0 : 5.0);
  return products * 2.0 * static_cast<double>(pairs) * static_cast<double>(problem.batch * problem.head_dim);
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
  steps = std::max(steps, rank_steps);
}

void expect_every_pair(const Problem& problem, std::int64_t pairs_of_all_ranks) {
  const std::int64_t expected = problem.pattern.area() * problem.heads;
  if (pairs_of_all_ranks == expected) return;
  throw std::logic_error(
      fmt::format("the plan computes {} visible pairs of all heads; expected {}: a planner is wrong",
                  pairs_of_all_ranks, expected));
}

}  // namespace longseq
