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
};

/// What the rows of a buffer hold. A buffer is a dense array (planes, rows, width):
///   keys      (2·batch·kv_heads, rows, head_dim): all of K, then all of V
///   queries   (batch·heads, rows, head_dim)
///   partials  (batch·heads, rows, head_dim + 1): a finished partial output and, last, its lse
enum class Payload { keys, queries, partials };

std::int64_t planes(const Problem& problem, Payload payload);
std::int64_t width(const Problem& problem, Payload payload);
std::int64_t bytes_per_row(const Problem& problem, Payload payload);

/// Rows of some rank's shard, held by this rank.
struct Buffer {
  Payload payload = Payload::keys;
  int owner = 0;             // the rank whose shard the rows come from
  Shard positions{};         // of the rows, in their order
  std::int64_t offset = -1;  // bytes from the start of the rank's arena; -1: not in the arena (own tensors)
};

/// Every RankPlan starts with these two buffers.
inline constexpr int kOwnKeys = 0;
inline constexpr int kOwnQueries = 1;

struct Transfer {
  int peer = 0;
  int buffer = 0;  // sent from, or received into
  Rows rows{};     // rows of the buffer, ascending
};

/// Query rows that take in key rows; either is one run of positions. The result goes into the rank's own
/// state if `queries` is kOwnQueries, else into the partials buffer `into`.
struct Tile {
  int queries = kOwnQueries;
  Interval query_rows{};
  int keys = kOwnKeys;
  Interval key_rows{};
  int into = -1;
};

/// Partial results of the same rows, joined: `into` takes in `from`.
struct Merge {
  int from = 0;
  int into = 0;
};

/// Partial results that become rows of this rank's own output when all steps are done.
struct Delivery {
  int from = 0;
  Rows rows;  // local rows of the own shard
};

struct Step {
  std::vector<Transfer> sends;
  std::vector<Transfer> receives;
  bool allgather_keys = false;  // one collective: everybody's keys into the arena, in rank order
  std::vector<Tile> tiles;
  std::vector<Merge> merges;
};

struct RankPlan {
  int rank = 0;
  std::vector<Buffer> buffers;
  std::vector<Step> steps;
  std::vector<Delivery> deliveries;
  std::int64_t arena_bytes = 0;  // memory for all buffers that are not the rank's own tensors
};

/// A plan with the two own buffers and no step.
RankPlan start_plan(const Problem& problem, int rank);

/// Appends a buffer with these rows and gives its index.
int add_buffer(RankPlan& plan, Payload payload, int owner, Shard positions);

/// The step with this number; appends empty ones up to it.
Step& step_at(RankPlan& plan, std::size_t index);

/// Appends tiles to `tiles` for every pair of runs of the two buffers of which something is visible, queries
/// cut to `query_rows`.
void add_tiles(const Problem& problem, const RankPlan& plan, Tile buffers, const Rows& query_rows,
               std::vector<Tile>& tiles);

/// All rows of a buffer.
Rows all_rows(const Buffer& buffer);

/// Gives each arena buffer without an offset its place: buffers whose lifetimes (first to last step of use)
/// do not meet may share memory. Sets arena_bytes.
void place_buffers(const Problem& problem, RankPlan& plan);

/// The positions of one row interval of a buffer that lies within one run.
Run positions_of(const Buffer& buffer, Interval rows);

}  // namespace longseq
