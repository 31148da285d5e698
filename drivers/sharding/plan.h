// What every rank does, step by step, to attend over a sharded sequence: pure data, made without MPI, so that
// a plan for thousands of ranks can be checked and priced on one core.
//
// Within a step, in this order: the sends and receives start; the tiles are computed while they travel; all
// transfers end; merges follow. Tiles and sends use only what earlier steps brought. A send and its receive
// are in the same step of both ranks' plans, so that a rank never waits for one that waits for it.
#pragma once

#include <cstdint>
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
bool of_keys(Payload payload);
std::int64_t width(const Problem& problem, Payload payload);
/// Bytes of one row of one plane.
std::int64_t row_bytes(const Problem& problem, Payload payload);
std::int64_t planes(const Problem& problem, Payload payload, Interval heads);
/// Bytes of one row of all planes of these heads.
std::int64_t bytes_per_row(const Problem& problem, Payload payload, Interval heads);
/// All heads that the payload has.
Interval all_heads(const Problem& problem, Payload payload);

/// Rows of some ranks' shards, held by this rank.
struct Buffer {
  Payload payload = Payload::keys;
  Shard positions{};         // of the rows, in their order
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
  Rows rows{};       // rows of the buffer, ascending
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
  Rows rows{};  // of `into`
};

/// Partial results that become rows of this rank's own output when all steps are done.
struct Delivery {
  int from = 0;
  Rows rows;  // local rows of the own shard
};

/// With room for as many as most steps of a ring have, so that they take no memory of their own.
using Transfers = boost::container::small_vector<Transfer, 2>;
using Tiles = boost::container::small_vector<Tile, 1>;
using Merges = boost::container::small_vector<Merge, 1>;

struct Step {
  Transfers sends;
  Transfers receives;
  bool allgather_keys = false;  // one collective: everybody's keys into the arena, in rank order
  Tiles tiles;
  Merges merges;
};

struct RankPlan {
  int rank = 0;
  std::vector<Buffer> buffers;
  std::vector<Step> steps;
  std::vector<Delivery> deliveries;
  Interval own_heads;            // of which the rank computes its own queries' results
  std::int64_t arena_bytes = 0;  // memory for all buffers that are not the rank's own tensors
};

/// A plan with the own buffers and no step.
RankPlan start_plan(const Problem& problem, int rank);

/// Appends a buffer with these rows and heads and gives its index.
int add_buffer(RankPlan& plan, Payload payload, Shard positions, Interval heads);
inline const Buffer& buffer_of(const RankPlan& plan, int index) {
  return plan.buffers[static_cast<std::size_t>(index)];
}
/// Bytes of all its rows.
std::int64_t bytes_of(const Problem& problem, const Buffer& buffer);
/// Rows of a buffer, of all its heads, to or from a peer.
Transfer transfer(const RankPlan& plan, int peer, int buffer, Rows rows);
Transfer transfer_all(const RankPlan& plan, int peer, int buffer);
/// Bytes that it moves.
std::int64_t bytes_of(const Problem& problem, const RankPlan& plan, const Transfer& transfer);
/// How many messages carry a transfer: one, or, of some of the heads, one for each batch entry, K and V
/// apart, if each is large: MPI copies what lies in one block faster.
std::int64_t messages_of(const Problem& problem, const RankPlan& plan, const Transfer& transfer);

/// Where own rows' results go: own outputs or own query gradients.
int own_results(const Problem& problem);

/// The step with this number; appends empty ones up to it.
Step& step_at(RankPlan& plan, std::size_t index);

/// Appends tiles to `tiles` for every pair of runs of the two buffers of which something is visible, queries
/// cut to `query_rows` and, where these are few, to those that see any of the keys; keys cut, if `query_rows`
/// are a part of the queries and see few of them, to those that are seen; heads (all of the query buffer's if
/// there are none in `buffers`) cut where a key head serves only some of its query heads.
void add_tiles(const Problem& problem, const RankPlan& plan, Tile buffers, const Rows& query_rows,
               Tiles& tiles);

/// Whether add_tiles() would add any for these.
bool sees_any(const Pattern& pattern, const Shard& queries, const Shard& keys);

/// All rows of a buffer.
Rows all_rows(const Buffer& buffer);

/// Gives each arena buffer without an offset its place: buffers whose lifetimes (first to last step of use)
/// do not meet may share memory. Sets arena_bytes.
void place_buffers(const Problem& problem, RankPlan& plan);

}  // namespace longseq
