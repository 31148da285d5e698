// How planners write plans: what is done in which step, in any order.
#pragma once

#include <boost/container/small_vector.hpp>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "drivers/sharding/plan.h"

namespace longseq {

/// A run of queries, its rows of their buffer, and the keys that it sees.
struct SeeingRun {
  Run queries;
  Interval rows;
  VisibleKeys seen;
};
using SeeingRuns = boost::container::small_vector<SeeingRun, 2>;

/// The runs of some rows of a shard, which hold queries.
SeeingRuns seeing_runs(const Pattern& pattern, ShardView shard, RowsView rows);

/// Whether queries of the one see any of the keys of the other; between stripes, whether their hull does.
bool sees_any(const Pattern& pattern, ShardView queries, ShardView keys);

class PlanBuilder {
 public:
  /// A plan with the own buffers and no step. `problem` must outlive this.
  PlanBuilder(const Problem& problem, int rank);

  /// Makes room for what is usual of so many steps.
  void reserve(std::size_t steps);
  void set_own_heads(Interval heads) { plan_.own_heads = heads; }

  int rank() const { return plan_.rank; }
  const Buffer& buffer(int index) const { return buffer_of(plan_, index); }
  ShardView positions_of(int index) const { return plan_.positions_of(buffer(index)); }
  Rows all_rows(int index) const { return rows_from({0, buffer(index).rows}); }

  /// Appends a buffer with these heads and positions, or those of some rows of a shard; gives its index.
  int add_buffer(Payload payload, ShardView positions, Interval heads);
  int add_buffer(Payload payload, ShardView shard, RowsView rows, Interval heads);
  /// A buffer at this place of the arena, for a collective.
  int add_buffer_at(std::int64_t offset, Payload payload, ShardView positions, Interval heads);

  /// Rows of a buffer to or from a peer, of all its heads or of some. A step that is named exists, and all
  /// before it.
  void send(std::size_t step, int peer, int buffer, RowsView rows, Interval heads = {}) {
    step_at(step);
    fill(sends_.add(step), peer, buffer, rows, heads);
  }
  void send(std::size_t step, int peer, int buffer) { send(step, peer, buffer, all_rows(buffer)); }
  void receive(std::size_t step, int peer, int buffer, RowsView rows, Interval heads = {}) {
    step_at(step);
    fill(receives_.add(step), peer, buffer, rows, heads);
  }
  void receive(std::size_t step, int peer, int buffer) { receive(step, peer, buffer, all_rows(buffer)); }
  void merge(std::size_t step, int from, int into, RowsView into_rows);
  void deliver(int from, RowsView own_rows);
  void allgather_keys(std::size_t step) { step_at(step).allgather_keys = true; }
  std::size_t steps() const { return plan_.steps.size(); }
  Step& step_at(std::size_t step) {
    if (plan_.steps.size() <= step) plan_.steps.resize(step + 1);
    return plan_.steps[step];
  }

  /// Tiles of these buffers for every pair of runs of queries and keys of which something is visible. Queries
  /// are cut to the rows of `queries` and, where these are few, to those that see any of the keys; keys, if
  /// that is a part of the buffer's queries which sees few of them, to those that are seen; heads (all of the
  /// query buffer's if there are none in `buffers`) where a key head serves only some of its query heads.
  /// Gives whether there are any.
  bool compute(std::size_t step, const Tile& buffers, const SeeingRuns& queries);
  bool compute(std::size_t step, const Tile& buffers, RowsView query_rows);

  /// The plan, its buffers placed. Nothing is added after it.
  RankPlan finish();

 private:
  /// What all steps have of a kind, as it came.
  template <class T>
  struct List {
    std::vector<T> elements;
    std::vector<std::int32_t> steps;  // [element]

    /// To be filled where it lies: a copy of what was just written waits for it to reach the cache.
    T& add(std::size_t step) {
      steps.push_back(static_cast<std::int32_t>(step));
      return elements.emplace_back();
    }
    /// By step; those of one in the order in which they came.
    void sort();
  };

  Slice append(RowsView rows);
  void fill(Transfer& transfer, int peer, int buffer, RowsView rows, Interval heads);
  /// The list by steps, and where each step has its own.
  template <class T>
  std::vector<T> in_order(List<T>& list, Slice Step::*slice);

  const Problem& problem_;
  RankPlan plan_;
  List<Transfer> sends_;
  List<Transfer> receives_;
  List<Tile> tiles_;
  List<Merge> merges_;
};

}  // namespace longseq
