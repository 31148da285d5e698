#include <algorithm>
#include <bit>

#include "drivers/sharding/plan_builder.h"
#include "drivers/sharding/planner.h"

namespace longseq {
namespace {

/// A binomial tree over the ranks that hold tokens, seen from one of them. Node 0 is the root; node v has the
/// parent v − 2^k, k its highest bit, and is reached at level k.
struct Tree {
  int root;   // its rank
  int nodes;  // ranks that hold tokens; they are ranks 0..nodes−1 in every layout
  int node;   // this rank's number in the tree

  static int levels(int nodes) { return std::bit_width(static_cast<unsigned>(nodes - 1)); }
  int level() const { return std::bit_width(static_cast<unsigned>(node)) - 1; }  // −1 for the root
  int rank_of(int v) const { return (v + root) % nodes; }
  int parent() const { return rank_of(node - (1 << level())); }
  /// The rank that this node passes to at `level`, or −1.
  int child(int at) const {
    return at > level() && node + (1 << at) < nodes ? rank_of(node + (1 << at)) : -1;
  }
};

class HaloPlanner {
 public:
  HaloPlanner(const Problem& problem, int rank)
      : problem_(problem), plan_(problem, rank), globals_{0, global_tokens(problem)} {
    const Layout& layout = problem.layout;
    nodes_ = static_cast<int>(std::min<std::int64_t>(layout.ranks, problem.pattern.seq_len));
    levels_ = Tree::levels(nodes_);
    joined_rows_ = !problem.pattern.causal && levels_ > 0 && !globals_.empty();
    // Rows of joined global tokens are computed by everybody; the others are this rank's alone.
    own_rows_ =
        rows_within(layout.shard(rank), Rows{{joined_rows_ ? globals_.end : 0, problem.pattern.seq_len}});
  }

  RankPlan make() {
    add_own_tiles();
    exchange_halos();
    if (plan_.rank() < nodes_ && levels_ > 0) {
      for (int root = 0; root < nodes_; ++root) {
        const Rows rows = rows_within(problem_.layout.shard(root), Rows{globals_});
        if (!rows.empty()) spread_and_join(root, rows);
      }
    }
    return plan_.finish();
  }

 private:
  static std::int64_t global_tokens(const Problem& problem) {
    return problem.pattern.kind == PatternKind::global ? problem.pattern.global_tokens : 0;
  }

  bool backward() const { return problem_.pass == Pass::backward; }

  Tile own_tile(int keys) const { return {.keys = keys, .into = own_results(problem_)}; }

  int new_buffer(Payload payload, const Shard& positions) {
    return plan_.add_buffer(payload, positions, all_heads(problem_, payload));
  }

  /// What a peer sends of rows of `owner`, joined with or added to `into_rows` of `into`.
  void add_received(std::size_t step, Payload payload, int peer, int owner, const Rows& rows, int into,
                    const Rows& into_rows) {
    const int part = new_buffer(payload, select(problem_.layout.shard(owner), rows));
    plan_.receive(step, peer, part);
    plan_.merge(step, part, into, into_rows);
  }

  /// Own queries on own keys, in parts, so that there is work beside each level of the trees, and backward
  /// beside the gradients that return.
  void add_own_tiles() {
    const int spreading = globals_.empty() ? 1 : levels_ + 1;
    const int returning = plan_alone() ? 0 : globals_.empty() ? 2 : std::max(2, levels_);
    const int parts = spreading + (backward() ? returning : 0);
    const std::int64_t total = plan_.buffer(kOwnQueries).rows;
    for (int part = 0; part < parts; ++part) {
      Rows rows;
      for (const Interval& interval : own_rows_)
        append(rows, intersect(interval, {total * part / parts, total * (part + 1) / parts}));
      plan_.compute(static_cast<std::size_t>(part), own_tile(kOwnKeys), rows);
    }
  }
  bool plan_alone() const { return problem_.layout.ranks == 1; }

  /// The rows of `owner` whose keys the rank's own queries see, without the global tokens.
  Rows halo(int rank, int owner) const {
    const Shard own = problem_.layout.shard(rank);
    const Shard queries =
        select(own, rows_within(own, Rows{{joined_rows_ ? globals_.end : 0, problem_.pattern.seq_len}}));
    const Interval beyond_globals{globals_.end, problem_.pattern.seq_len};
    Rows seen;
    for (const Run& run : queries) {
      if (sees_none_of(run, owner)) continue;
      const VisibleKeys keys = problem_.pattern.keys_seen_by(run);
      seen.push_back(intersect(keys.first, beyond_globals));
      seen.push_back(intersect(keys.second, beyond_globals));
    }
    longseq::join(seen);
    return rows_within(problem_.layout.shard(owner), seen);
  }

  /// Between stripes keys_seen_by is only a hull: a window shorter than the stride passes most ranks by.
  /// Windows are asked exactly; segments and documents would have to be walked one by one, and keep their
  /// hulls.
  bool sees_none_of(const Run& queries, int owner) const {
    const PatternKind kind = problem_.pattern.kind;
    if (queries.stride == 1 || (kind != PatternKind::local && kind != PatternKind::global)) return false;
    for (const Run& keys : problem_.layout.shard(owner)) {
      const Run beyond = keys.slice(keys.rows_in({globals_.end, problem_.pattern.seq_len}));
      if (!beyond.empty() && problem_.pattern.area(queries, beyond) > 0) return false;
    }
    return true;
  }

  void exchange_halos() {
    for (int peer = 0; peer < problem_.layout.ranks; ++peer) {
      if (peer == plan_.rank()) continue;
      if (const Rows rows = halo(peer, plan_.rank()); !rows.empty()) {
        plan_.send(0, peer, kOwnKeys, rows);
        if (backward())
          add_received(2, Payload::key_gradients, peer, plan_.rank(), rows, kOwnKeyGradients, rows);
      }
      if (const Rows rows = halo(plan_.rank(), peer); !rows.empty()) {
        const Shard positions = select(problem_.layout.shard(peer), rows);
        const int buffer = new_buffer(Payload::keys, positions);
        plan_.receive(0, peer, buffer);
        Tile tile = own_tile(buffer);
        if (backward()) {
          tile.key_gradients = new_buffer(Payload::key_gradients, positions);
          plan_.send(2, peer, tile.key_gradients);
        }
        plan_.compute(1, tile, own_rows_);
      }
    }
  }

  /// Sends the root's global rows down its tree: their keys, and if their rows are joined, their queries too,
  /// which everybody answers from its own keys; the answers go up the tree again and are joined on the way,
  /// as do, backward, the gradients.
  void spread_and_join(int root, const Rows& rows) {
    const Tree tree{root, nodes_, (plan_.rank() - root + nodes_) % nodes_};
    const Shard positions = select(problem_.layout.shard(root), rows);
    const bool is_root = tree.node == 0;
    const auto held_from =
        static_cast<std::size_t>(tree.level() + 1);  // the step from which the rows are here
    Tile own = own_tile(spread(tree, positions, rows, kOwnKeys));
    if (backward()) {
      if (!is_root) own.key_gradients = new_buffer(Payload::key_gradients, positions);
      join(tree, rows, own.key_gradients);
    }
    if (!is_root) plan_.compute(held_from, own, own_rows_);
    if (!joined_rows_) return;

    Tile answer;
    answer.queries = spread(tree, positions, rows, kOwnQueries);
    if (backward()) {
      answer.output_gradients = spread(tree, positions, rows, kOwnOutputGradients);
      answer.statistics = spread(tree, positions, rows, kOwnStatistics);
      answer.into = is_root ? kOwnQueryGradients : new_buffer(Payload::query_gradients, positions);
    } else {
      answer.into = new_buffer(Payload::partials, positions);
    }
    plan_.compute(held_from, answer, is_root ? rows : plan_.all_rows(answer.queries));
    join(tree, rows, answer.into);
    if (is_root && !backward()) plan_.deliver(answer.into, rows);
  }

  /// `buffer`, of the root's `rows`, up the tree: children's joined with it, then to the parent. At the root
  /// it may be an own tensor, of which these rows are meant.
  void join(const Tree& tree, const Rows& rows, int buffer) {
    const bool own = buffer < kOwnBuffers;
    const Payload payload = plan_.buffer(buffer).payload;
    for (int at = levels_ - 1; at >= 0; --at) {
      const auto step = static_cast<std::size_t>(2 * levels_ - at);
      if (at == tree.level()) plan_.send(step, tree.parent(), buffer);
      if (const int child = tree.child(at); child >= 0)
        add_received(step, payload, child, tree.root, rows, buffer, own ? rows : plan_.all_rows(buffer));
    }
  }

  /// One payload down the tree. Gives the buffer that holds it here: the root's own tensor, or a received
  /// copy.
  int spread(const Tree& tree, const Shard& positions, const Rows& rows, int own) {
    int buffer = own;
    if (tree.node != 0) {
      buffer = new_buffer(plan_.buffer(own).payload, positions);
      plan_.receive(static_cast<std::size_t>(tree.level()), tree.parent(), buffer);
    }
    for (int at = 0; at < levels_; ++at) {
      if (const int child = tree.child(at); child >= 0) {
        plan_.send(static_cast<std::size_t>(at), child, buffer,
                   tree.node == 0 ? rows : plan_.all_rows(buffer));
      }
    }
    return buffer;
  }

  const Problem& problem_;
  PlanBuilder plan_;
  Interval globals_;
  int nodes_ = 1;
  int levels_ = 0;
  bool joined_rows_ = false;
  Rows own_rows_;
};

}  // namespace

PlanRank plan_halo(const Problem& problem) {
  return [&problem](int rank) { return HaloPlanner(problem, rank).make(); };
}

}  // namespace longseq
