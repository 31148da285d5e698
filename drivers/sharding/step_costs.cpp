#include "drivers/sharding/step_costs.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

#include "drivers/sharding/audit.h"
#include "drivers/sharding/gradient_starts.h"

namespace longseq {
namespace {

// What touching a byte takes, in bytes of the memory's bandwidth: a triad counts three accesses, of four that
// take place, since a line is read before it is written.
constexpr double kRead = 0.75;
constexpr double kWrite = 1.5;
constexpr double kChange = 1.5;  // read and written back

double compute_seconds(const Problem& problem, const Machine& machine, std::span<const Tile> tiles) {
  const KernelCosts& costs = machine.costs(problem.pass);
  const auto numbers = static_cast<double>(problem.batch * problem.head_dim);  // of a row and head
  double seconds = tiles.empty() ? 0 : costs.call;
  // Rows that begin alike are loaded once for all their keys.
  using Loaded = std::pair<std::tuple<int, std::int64_t, std::int64_t>,  // queries, first row and head
                           double>;                                      // rows of all heads
  boost::container::small_vector<Loaded, 4> query_rows;
  for (const Tile& tile : tiles) {
    const Run query_run = tile.query_positions;
    const Run key_run = tile.key_positions;
    const auto heads = static_cast<double>(tile.heads.size());
    const auto visible = static_cast<double>(problem.pattern.area(query_run, key_run));
    const auto all = static_cast<double>(query_run.count) * static_cast<double>(key_run.count);
    const auto rows = static_cast<double>(
        visible == all ? query_run.count : problem.pattern.rows_that_see(query_run, key_run).size());
    const VisibleKeys seen = problem.pattern.keys_seen_by(query_run);
    const auto seen_keys =
        static_cast<double>(key_run.rows_in(seen.first).size() + key_run.rows_in(seen.second).size());
    seconds += visible * heads * pass_flops(problem, 1) / costs.flops_per_second;
    if (visible < all) seconds += costs.masked_row * rows * heads * numbers;
    seconds +=
        costs.key_row * seen_keys * numbers * static_cast<double>(problem.kv_heads_of(tile.heads).size());
    query_rows.push_back({{tile.queries, tile.query_rows.begin, tile.heads.begin}, rows * heads});
  }
  std::sort(query_rows.begin(), query_rows.end());
  for (std::size_t i = 0; i < query_rows.size(); ++i) {
    if (i + 1 == query_rows.size() || query_rows[i].first != query_rows[i + 1].first)  // the most of each
      seconds += costs.query_row * query_rows[i].second * numbers;
  }
  return seconds;
}

double bytes_in(const Problem& problem, const RankPlan& plan, int buffer) {
  return static_cast<double>(bytes_of(problem, buffer_of(plan, buffer)));
}

double bytes_in(const Problem& problem, const RankPlan& plan, const GradientStarts::Zero& zero) {
  return static_cast<double>(zero.area.rows.size() *
                             bytes_per_row(problem, buffer_of(plan, zero.buffer).payload, zero.area.heads));
}

/// What a backward pass does with the rank's own tensors: it takes delta from outputs and their gradients.
double delta_seconds(const Problem& problem, const Machine& machine, const RankPlan& plan) {
  return kRead * (bytes_in(problem, plan, kOwnOutputs) + bytes_in(problem, plan, kOwnOutputGradients)) /
         machine.memory_bandwidth;
}

using Incoming = decltype(StepCost::incoming);

/// One of each peer, with all its bytes: messages that lie beside each other are copied like one.
void join_messages(Incoming& incoming) {
  std::stable_sort(incoming.begin(), incoming.end(),
                   [](const auto& a, const auto& b) { return a.peer < b.peer; });
  std::size_t count = 0;
  for (const StepCost::Incoming& message : incoming) {
    if (count > 0 && incoming[count - 1].peer == message.peer) {
      incoming[count - 1].bytes += message.bytes;
    } else {
      incoming[count++] = message;
    }
  }
  incoming.resize(count);
}

}  // namespace

std::vector<StepCost> price(const Problem& problem, const Machine& machine, const RankPlan& plan) {
  std::vector<StepCost> steps;
  const GradientStarts starts = gradient_starts(problem, plan);
  auto zero = starts.zeros.begin();
  for (std::size_t s = 0; s < plan.steps.size(); ++s) {
    const Step& step = plan.steps[s];
    StepCost cost;
    cost.compute = compute_seconds(problem, machine, plan.tiles_of(step));
    for (const Transfer& receive : plan.receives_of(step))
      cost.incoming.push_back({receive.peer, static_cast<double>(bytes_of(problem, plan, receive))});
    double touched = 0;  // bytes of the memory's bandwidth
    for (int peer = 0; step.allgather_keys && peer < problem.layout.ranks; ++peer) {
      const auto bytes =
          static_cast<double>(tokens_in(problem.layout.shard(peer)) *
                              bytes_per_row(problem, Payload::keys, all_heads(problem, Payload::keys)));
      if (peer == plan.rank) {
        touched += (kRead + kWrite) * bytes;  // the own keys, to their place among the others
      } else {
        cost.incoming.push_back({peer, bytes});
      }
    }
    join_messages(cost.incoming);
    const bool last = s + 1 == plan.steps.size();  // what is set to zero after it counts, too
    for (; zero != starts.zeros.end() && (last || zero->step == s); ++zero)
      touched += kWrite * bytes_in(problem, plan, *zero);
    for (const Merge& merge : plan.merges_of(step))
      touched += (kRead + kChange) * bytes_in(problem, plan, merge.from);
    cost.merge = touched / machine.memory_bandwidth;
    steps.push_back(std::move(cost));
  }
  if (!steps.empty() && problem.pass == Pass::backward)
    steps.front().merge += delta_seconds(problem, machine, plan);
  return steps;
}

}  // namespace longseq
