// One task of the backward engine: some keys of one key/value head against all queries that see them. Tasks
// of one head add to the same dq, one after the other (procession.h). Not for use outside kernels/.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "kernels/attention_backward.h"
#include "kernels/procession.h"
#include "kernels/simd.h"
#include "kernels/tiles/backward_tile.h"

namespace longseq::detail {

struct BackwardTask {
  std::size_t block;  // of keys
  std::int64_t batch;
  std::int64_t kv_head;
  Interval keys;            // rows of the block
  std::size_t place;        // in the procession of its batch entry and head
  std::size_t place_terms;  // in the procession of its head, which adds to the gradients of position terms
};

/// A few keys that nearly all queries see: global tokens. A tile that sees no other keys of their task would
/// be loaded there for them alone, so another task that it meets, its host, takes them along; it sums their
/// gradients by itself and adds them when all tasks before it have left.
struct Guests {
  static constexpr std::size_t kNoHost = static_cast<std::size_t>(-1);

  std::size_t block = 0;           // of keys
  Interval keys{};                 // rows of the block
  std::vector<std::size_t> hosts;  // [tile of a pass]: the task's place in its procession; empty: no guests

  bool invited() const { return !hosts.empty(); }
};

/// What all tasks of a call share.
template <class T>
struct BackwardCall {
  using A = Accumulator<T>;
  const Pattern& pattern;
  const PositionTerms<A>& terms;
  std::span<const GradientQueries<T>> queries;
  std::span<const GradientKeys<T>> keys;
  const TermGradients<A>& gradients;
  PairProducts products;                 // how pairs are multiplied, if at all
  std::int64_t fold;                     // query heads folded into the rows of a tile
  std::vector<std::int64_t> first_tile;  // [query block], and the number of tiles of one pass
  Guests guests;
  std::deque<Procession> by_batch_head;  // [batch · kv_heads + kv_head]
  std::deque<Procession> by_head;        // [kv_head]

  std::int64_t group() const { return queries.front().q.shape.heads / keys.front().k.shape.heads; }
  std::int64_t passes() const { return group() / fold; }  // over the queries, for all heads of a key head
  std::int64_t tiles(std::size_t block) const { return first_tile[block + 1] - first_tile[block]; }
  /// The number of a tile of a query block in its procession.
  std::int64_t tile_number(std::int64_t pass, std::size_t block, std::int64_t tile) const {
    return pass * first_tile.back() + first_tile[block] + tile;
  }
  /// Who takes the guests to a tile of a query block.
  std::size_t host(std::size_t block, std::int64_t tile) const {
    return guests.invited() ? guests.hosts[static_cast<std::size_t>(first_tile[block] + tile)]
                            : Guests::kNoHost;
  }
  Procession& procession(std::int64_t batch, std::int64_t kv_head) {
    return by_batch_head[static_cast<std::size_t>(batch * keys.front().k.shape.heads + kv_head)];
  }
  /// The rows of a query block in its tile of a pass.
  FoldedRows rows(std::size_t block, std::int64_t kv_head, std::int64_t pass, std::int64_t tile) const {
    const std::int64_t rows = queries[block].positions.count * fold;
    return {kv_head * group() + pass,
            fold,
            {std::min(tile * kBackwardLanes, rows), std::min((tile + 1) * kBackwardLanes, rows)}};
  }
};

/// Tiles that hold the first so many rows.
constexpr std::int64_t tiles_before(std::int64_t row) {
  return (row + kBackwardLanes - 1) / kBackwardLanes;
}

/// Keys of a task, at most: as many as fit, with their gradients, into 740 KB of the second-level cache, or
/// twice that where it has 2 MiB, since each task loads all queries; no more than 6 pieces, so that there are
/// tasks enough. Sums of dq are made task by task: its last bits depend on this.
constexpr std::int64_t kMostTaskPieces = 6;
std::int64_t most_task_keys(std::int64_t head_dim);

/// What one thread works in.
template <class T>
struct BackwardScratch {
  using A = Accumulator<T>;
  explicit BackwardScratch(const BackwardCall<T>& call);
  /// Elements of A that one takes, without those of position terms.
  static std::int64_t elements(std::int64_t head_dim);

  Tensor<A> memory;
  BackwardTile<A> tile;
  BackwardOperands<A> operands;
  BackwardOperands<Pair> pairs;  // in the same memory
  KeyGradients<A> gradients;
  BackwardOperands<A> guest_operands;  // k and v; the rest is the tile's
  KeyGradients<A> guest_gradients;     // hold something if the task has had guests
  std::int64_t loaded;                 // rows of the key block: those of the task before it are packed
  std::int64_t given;                  // those before it have their gradients
  std::int64_t given_some;             // those before it a part of them, which later parts are added to
  std::int64_t part;  // of the procession, whose tiles are in the sums (limit_sums); −1: of none
  BackwardScores<A> scores;
  PairScores pair_scores;  // null where T is A
  /// Gradients of the position terms of the heads of the key head, as the task sums them; all zero between
  /// tasks.
  std::vector<A> bias;  // [group][row_size]
  Interval bias_touched;

  /// Relative keys, as tile and pieces need them; sizes in backward_terms.cpp.
  struct Relative {
    Tensor<A> memory;
    A* query_lanes;           // [2][head_dim][kLaneBlock]: q + v, where the operands have q + u
    A* query_rows;            // [kBackwardLanes][stride]
    A* dq_rows;               // [kBackwardLanes][stride]: what the products with r add to dq
    A* rows;                  // [distances of a piece][stride]: r
    A* d_rows;                // as rows: dr
    A* products;              // [distances of a piece][kBackwardLanes]
    std::vector<A> d_biases;  // [2][group][head_dim]: of u and of v, as the task sums them
    Interval distances;       // rows of r that the call may meet
    std::vector<A> dr;        // [group][those distances][stride], as the task sums it
    Interval touched;         // distances of r, of dr
  } relative;
};

/// Adds the task's share to all gradients.
template <class T>
void run_task(BackwardCall<T>& call, const BackwardTask& task, BackwardScratch<T>& scratch, const Poll& poll);

}  // namespace longseq::detail
