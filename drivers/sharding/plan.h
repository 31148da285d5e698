// What every rank does, step by step, to attend over a sharded sequence: pure data, made without MPI, so that
// a plan for thousands of ranks can be checked and priced on one core.
//
// Within a step, in this order: the sends and receives start; the tiles are computed while they travel; all
// transfers end; merges follow. Tiles and sends use only what earlier steps brought. A send and its receive
// are in the same step of both ranks' plans, so that a rank never waits for one that waits for it.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "drivers/sharding/layout.h"
#include "kernels/pattern.h"

namespace longseq {

enum class Pass { forward, backward };

/// What to compute: one attention layer over a sharded sequence.
struct Problem {
  Pattern pattern;
  Layout layout;
  std::int64_t batch = 1;
  std::int64_t heads = 1;
  std::int64_t kv_heads = 1;
  std::int64_t head_dim = 1;
  std::int64_t element_bytes = 4;
  std::int64_t accumulator_bytes = 4;
  Pass pass = Pass::forward;
  bool relative = false;   // Transformer-XL's products with relative keys beside those with keys
  int ulysses_degree = 0;  // usp: ranks that share heads; 0: chosen

  std::int64_t group() const { return heads / kv_heads; }
  /// The key heads that these query heads read.
  Interval kv_heads_of(Interval query_heads) const {
    return {query_heads.begin / group(), (query_heads.end + group() - 1) / group()};
  }
};

/// What the rows of a buffer hold. A buffer is a dense array (planes, rows, width); there is a plane for each
/// of its heads and batch entries, twice as many for keys: all of K, then all of V.
enum class Payload {
  keys,              // K and V, width head_dim
  queries,           // width head_dim
  outputs,           // width head_dim
  lse,               // width 1, accumulator
  partials,          // a finished partial output and, last, its lse: width head_dim + 1, accumulator
  output_gradients,  // dO, width head_dim
  statistics,        // lse and delta: width 2, accumulator
  query_gradients,   // dQ, width head_dim, accumulator
  key_gradients,     // dK and dV, width head_dim, accumulator
};

/// Whether a payload's heads are key heads.
inline bool of_keys(Payload payload) {
  return payload == Payload::keys || payload == Payload::key_gradients;
}
inline std::int64_t width(const Problem& problem, Payload payload) {
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
/// Bytes of one row of one plane.
inline std::int64_t row_bytes(const Problem& problem, Payload payload) {
  const bool stored = payload == Payload::keys || payload == Payload::queries ||
                      payload == Payload::outputs || payload == Payload::output_gradients;
  return width(problem, payload) * (stored ? problem.element_bytes : problem.accumulator_bytes);
}
inline std::int64_t planes(const Problem& problem, Payload payload, Interval heads) {
  return (of_keys(payload) ? 2 : 1) * problem.batch * heads.size();
}
/// Bytes of one row of all planes of these heads.
inline std::int64_t bytes_per_row(const Problem& problem, Payload payload, Interval heads) {
  return planes(problem, payload, heads) * row_bytes(problem, payload);
}
/// All heads that the payload has.
inline Interval all_heads(const Problem& problem, Payload payload) {
  return {0, of_keys(payload) ? problem.kv_heads : problem.heads};
}

/// Some elements that lie side by side in one of a plan's lists.
struct Slice {
  std::int32_t begin = 0;
  std::int32_t end = 0;
};

/// Rows of some ranks' shards, held by this rank.
struct Buffer {
  Payload payload = Payload::keys;
  Slice positions{};         // of the rows, in their order
  std::int64_t rows = 0;     // how many
  Interval heads{};          // of the payload's kind
  std::int64_t offset = -1;  // bytes from the start of the rank's arena; -1: not in the arena (own tensors)
};

/// Every RankPlan starts with the buffers that are its rank's own tensors.
enum OwnBuffer : int {
  kOwnKeys,
  kOwnQueries,
  kOwnOutputs,
  kOwnLse,
  kOwnOutputGradients,
  kOwnStatistics,
  kOwnQueryGradients,
  kOwnKeyGradients,
  kOwnBuffers
};

struct Transfer {
  int peer = 0;
  int buffer = 0;    // sent from, or received into
  Slice rows{};      // of the buffer, ascending
  Interval heads{};  // of the payload's kind, within the buffer's
};

/// Query rows that take in key rows, either one run of positions, for some query heads. Forward, the result
/// goes into `into`: the rank's own outputs, partials, or outputs beside `lse`. Backward it is added to
/// `into`, query gradients, and to key_gradients, whose rows are those of `keys`.
struct Tile {
  int queries = kOwnQueries;
  Interval query_rows{};
  Run query_positions{};  // of these rows
  int keys = kOwnKeys;
  Interval key_rows{};
  Run key_positions{};
  int into = kOwnOutputs;
  int lse = kOwnLse;
  int output_gradients = kOwnOutputGradients;
  int statistics = kOwnStatistics;
  int key_gradients = kOwnKeyGradients;
  Interval heads{};
};

/// What becomes of two buffers of the same payload: partial results of the same rows are joined, gradients
/// added to those rows and heads of `into` that `from` has.
struct Merge {
  int from = 0;
  int into = 0;
  Slice rows{};  // of `into`
};

/// Partial results that become rows of this rank's own output when all steps are done.
struct Delivery {
  int from = 0;
  Slice rows{};  // local rows of the own shard
};

struct Step {
  Slice sends{};
  Slice receives{};
  Slice tiles{};
  Slice merges{};
  bool allgather_keys = false;  // one collective: everybody's keys into the arena, in rank order
};

/// Lists of plain elements, which point into each other: of thousands of ranks, plans with as many steps are
/// gone over again and again, and should fit a cache. A PlanBuilder makes it.
struct RankPlan {
  int rank = 0;
  Interval own_heads;            // of which the rank computes its own queries' results
  std::int64_t arena_bytes = 0;  // memory for all buffers that are not the rank's own tensors
  std::vector<Buffer> buffers;
  std::vector<Step> steps;
  std::vector<Transfer> sends;  // of all steps, and so on
  std::vector<Transfer> receives;
  std::vector<Tile> tiles;
  std::vector<Merge> merges;
  std::vector<Delivery> deliveries;
  std::vector<Run> runs;            // of all buffers' positions
  std::vector<Interval> intervals;  // of all that has rows

  std::span<const Transfer> sends_of(const Step& step) const { return part(sends, step.sends); }
  std::span<const Transfer> receives_of(const Step& step) const { return part(receives, step.receives); }
  std::span<const Tile> tiles_of(const Step& step) const { return part(tiles, step.tiles); }
  std::span<const Merge> merges_of(const Step& step) const { return part(merges, step.merges); }
  ShardView positions_of(const Buffer& buffer) const { return part(runs, buffer.positions); }
  /// Of a transfer, a merge or a delivery.
  template <class Element>
  RowsView rows_of(const Element& element) const {
    return part(intervals, element.rows);
  }

 private:
  template <class T>
  static ListView<T> part(const std::vector<T>& list, Slice slice) {
    return {list.data() + slice.begin, list.data() + slice.end};
  }
};

inline const Buffer& buffer_of(const RankPlan& plan, int index) {
  return plan.buffers[static_cast<std::size_t>(index)];
}
/// Bytes of all its rows.
inline std::int64_t bytes_of(const Problem& problem, const Buffer& buffer) {
  return buffer.rows * bytes_per_row(problem, buffer.payload, buffer.heads);
}
/// Bytes that it moves.
inline std::int64_t bytes_of(const Problem& problem, const RankPlan& plan, const Transfer& transfer) {
  return count_rows(plan.rows_of(transfer)) *
         bytes_per_row(problem, buffer_of(plan, transfer.buffer).payload, transfer.heads);
}
/// How many messages carry a transfer: one, or, of some of the heads, one for each batch entry, K and V
/// apart, if each is large: MPI copies what lies in one block faster.
std::int64_t messages_of(const Problem& problem, const RankPlan& plan, const Transfer& transfer);

/// Where own rows' results go: own outputs or own query gradients.
int own_results(const Problem& problem);

/// Plans any rank's share of a problem. Ranks may be planned at the same time.
using PlanRank = std::function<RankPlan(int rank)>;

/// Gives each arena buffer without an offset its place: buffers whose lifetimes (first to last step of use)
/// do not meet may share memory. Sets arena_bytes.
void place_buffers(const Problem& problem, RankPlan& plan);

}  // namespace longseq
