#include "drivers/sharding/party_ring.h"

#include <algorithm>
#include <array>
#include <utility>

namespace longseq {
namespace {

/// The queries of one member of the own party, for the own heads, and where their results go.
struct MemberQueries {
  Tile buffers;
  Rows rows;
};

/// Rows of one member's shard that this rank holds, and where: of its keys, and of their gradients.
struct Held {
  int buffer = -1;
  int gradients = -1;
  Rows rows{};
};

/// Queries of a party, and the keys that they see.
struct View {
  Run queries;
  VisibleKeys keys;
};

class PartyRing {
 public:
  PartyRing(const Problem& problem, int rank, int degree)
      : problem_(problem),
        layout_(problem.layout),
        degree_(degree),
        parties_(layout_.ranks / degree),
        party_(rank / degree),
        member_(rank % degree),
        heads_(heads_of(member_)),
        kv_heads_(problem.kv_heads_of(heads_)),
        plan_(start_plan(problem, rank)) {}

  RankPlan make() {
    plan_.own_heads = heads_;
    plan_.steps.reserve(static_cast<std::size_t>(parties_) + 3);
    plan_.buffers.reserve(plan_.buffers.size() + static_cast<std::size_t>(3 * parties_ * degree_));
    step_at(plan_, 0);
    for (int party = 0; party < parties_; ++party) views_.push_back(views_of(party));
    if (degree_ > 1) gather();
    if (!heads_.empty()) go_round();
    if (degree_ > 1) scatter();
    place_buffers(problem_, plan_);
    return std::move(plan_);
  }

 private:
  bool backward() const { return problem_.pass == Pass::backward; }
  int around(int party) const { return (party + 2 * parties_) % parties_; }
  int rank_of(int party, int member) const { return party * degree_ + member; }
  Interval heads_of(int member) const { return part_of(problem_.heads, degree_, member); }

  // ---- within the party

  /// Own queries and keys for the others' heads to them, theirs for the own heads here.
  void gather() {
    std::vector<Payload> payloads{Payload::queries, Payload::keys};
    if (backward()) payloads.insert(payloads.end(), {Payload::output_gradients, Payload::statistics});
    for (int member = 0; member < degree_; ++member) {
      if (member == member_) continue;
      const int peer = rank_of(party_, member);
      for (const Payload payload : payloads) {
        const Interval theirs = of_keys(payload) ? problem_.kv_heads_of(heads_of(member)) : heads_of(member);
        send_own(0, peer, own_buffer(payload), theirs);
      }
    }
  }

  static int own_buffer(Payload payload) {
    switch (payload) {
      case Payload::keys:
        return kOwnKeys;
      case Payload::queries:
        return kOwnQueries;
      case Payload::output_gradients:
        return kOwnOutputGradients;
      default:
        return kOwnStatistics;
    }
  }

  void send_own(std::size_t step, int peer, int buffer, Interval heads) {
    Rows rows = all_rows(buffer_of(plan_, buffer));
    if (!rows.empty() && !heads.empty())
      step_at(plan_, step).sends.push_back({peer, buffer, std::move(rows), heads});
  }

  /// A buffer for a member's rows and the own heads, received in the first step.
  int received(Payload payload, int member) {
    const int rank = rank_of(party_, member);
    const int buffer = new_buffer(payload, rank, layout_.shard(rank));
    step_at(plan_, 0).receives.push_back(transfer_all(plan_, rank, buffer));
    return buffer;
  }

  int new_buffer(Payload payload, int owner, Shard positions) {
    return add_buffer(plan_, payload, owner, std::move(positions), of_keys(payload) ? kv_heads_ : heads_);
  }

  /// The party's queries for the own heads, with room for their results.
  void find_queries() {
    for (int member = 0; member < degree_; ++member) {
      const int rank = rank_of(party_, member);
      MemberQueries queries{{.into = own_results(problem_), .heads = heads_}, {}};
      Held home{kOwnKeys, kOwnKeyGradients, {}};
      const Shard shard = layout_.shard(rank);
      home.rows = queries.rows = joined({{0, tokens_in(shard)}});
      if (member != member_ && !shard.empty()) {
        // In the order in which the member sends them.
        queries.buffers.queries = received(Payload::queries, member);
        home.buffer = received(Payload::keys, member);
        if (backward()) {
          queries.buffers.output_gradients = received(Payload::output_gradients, member);
          queries.buffers.statistics = received(Payload::statistics, member);
          queries.buffers.into = new_buffer(Payload::query_gradients, rank, shard);
          home.gradients = new_buffer(Payload::key_gradients, rank, shard);
        } else {
          queries.buffers.into = new_buffer(Payload::outputs, rank, shard);
          queries.buffers.lse = new_buffer(Payload::lse, rank, shard);
        }
      }
      queries_.push_back(std::move(queries));
      home_.push_back(std::move(home));
    }
  }

  /// Results back to those whose rows they are.
  void scatter() {
    // After the ring, and backward after the gradients that come home: the same step for ranks without heads.
    const std::size_t last =
        first_step_ + static_cast<std::size_t>(parties_) + (backward() && parties_ > 1 ? 1 : 0);
    using Results = std::array<std::pair<Payload, int>, 2>;
    const Results results = backward() ? Results{{{Payload::query_gradients, kOwnQueryGradients},
                                                  {Payload::key_gradients, kOwnKeyGradients}}}
                                       : Results{{{Payload::outputs, kOwnOutputs}, {Payload::lse, kOwnLse}}};
    const Rows own_rows = all_rows(buffer_of(plan_, kOwnQueries));
    for (int member = 0; member < degree_; ++member) {
      if (member == member_) continue;
      const int peer = rank_of(party_, member);
      for (const auto& [payload, own] : results) {
        if (!heads_.empty() && tokens_in(layout_.shard(peer)) > 0) {
          const Tile& theirs = queries_[static_cast<std::size_t>(member)].buffers;
          const int buffer = payload == Payload::lse ? theirs.lse
                             : payload == Payload::key_gradients
                                 ? home_[static_cast<std::size_t>(member)].gradients
                                 : theirs.into;
          step_at(plan_, last).sends.push_back(transfer_all(plan_, peer, buffer));
        }
        const Interval heads = of_keys(payload) ? problem_.kv_heads_of(heads_of(member)) : heads_of(member);
        if (heads.empty() || own_rows.empty()) continue;
        if (payload == Payload::key_gradients) {  // key heads may be shared: members' gradients add up
          const int part = add_buffer(plan_, payload, plan_.rank, layout_.shard(plan_.rank), heads);
          step_at(plan_, last).receives.push_back(transfer_all(plan_, peer, part));
          step_at(plan_, last).merges.push_back({part, kOwnKeyGradients, own_rows});
        } else {
          step_at(plan_, last).receives.push_back({peer, own, own_rows, heads});
        }
      }
    }
  }

  // ---- from party to party

  void go_round() {
    find_queries();
    std::vector<Held> held = home_;
    for (int hop = 0; hop < parties_; ++hop) {
      const std::size_t step = first_step_ + static_cast<std::size_t>(hop);
      step_at(plan_, step);
      if (hop == 0) {
        compute_own();
      } else {
        if (backward()) return_gradients(hop, held);
        for (const Held& block : held) compute(step, block, 0, 1);
      }
      if (hop + 1 == parties_) break;
      const int owner = around(party_ - hop);
      for (int member = 0; member < degree_; ++member) {
        pass_on(step, owner, member, held[static_cast<std::size_t>(member)]);
        if (hop > 0) serve(step, around(party_ + hop + 1), member);
      }
      receive(step, around(owner - 1), held);
    }
  }

  /// Queries on the party's own keys: backward half of them last, beside the gradients that come home.
  void compute_own() {
    const bool halves = backward() && parties_ > 1;
    for (const Held& block : home_) {
      compute(first_step_, block, 0, halves ? 2 : 1);
      if (halves) compute(first_step_ + static_cast<std::size_t>(parties_), block, 1, 2);
    }
  }

  /// Part `part` of `parts` of the rows of each member's queries on a block of keys.
  void compute(std::size_t step, const Held& block, int part, int parts) {
    if (block.rows.empty()) return;
    for (const MemberQueries& queries : queries_) {
      Rows rows;
      for (const Interval& interval : queries.rows) {
        const Interval share = part_of(interval.size(), parts, part);
        rows.push_back({interval.begin + share.begin, interval.begin + share.end});
      }
      Tile tile = queries.buffers;
      tile.keys = block.buffer;
      if (backward()) tile.key_gradients = block.gradients;
      add_tiles(problem_, plan_, tile, joined(std::move(rows)), step_at(plan_, step).tiles);
    }
  }

  using Views = boost::container::small_vector<View, 2>;

  Views views_of(int party) const {
    Views views;
    for (int rank = rank_of(party, 0); rank < rank_of(party + 1, 0); ++rank) {
      for (const Run& queries : layout_.shard(rank))
        views.push_back({queries, problem_.pattern.keys_seen_by(queries)});
    }
    return views;
  }

  /// How much of some keys a party sees.
  enum class Need { none, some, all };

  Need need(int party, const Run& keys) const {
    Need most = Need::none;
    for (const View& view : views_[static_cast<std::size_t>(party)]) {
      const Interval first = keys.rows_in(view.keys.first);
      if (first.empty() && keys.rows_in(view.keys.second).empty()) continue;
      if (view.queries.stride != 1 && window_ && problem_.pattern.area(view.queries, keys) == 0) continue;
      if (first.size() == keys.count) return Need::all;
      most = Need::some;
    }
    return most;
  }
  bool needs(int party, const Run& keys) const { return need(party, keys) != Need::none; }

  /// The positions seen by parties [begin, end).
  void add_seen(int begin, int end, Rows& seen) const {
    for (const Run& queries : layout_.span(rank_of(begin, 0), rank_of(end, 0))) {
      const VisibleKeys keys = problem_.pattern.keys_seen_by(queries);
      seen.push_back(keys.first);
      seen.push_back(keys.second);
    }
  }

  /// The owner's rows that a party receives: what it and those that it passes them on to see.
  struct Incoming {
    Rows passed;  // by its neighbour, which needed them too
    Rows served;  // by their owner

    Rows all() const {
      Rows rows = passed;
      rows.insert(rows.end(), served.begin(), served.end());
      return joined(std::move(rows));
    }
  };

  /// Whether a party gives the owner's keys to the party after it, having had a use for some of them.
  bool passes_on(int party, int owner, const Run& keys) const { return party == owner || needs(party, keys); }

  Incoming rows_to(int to, int owner, int member) const {
    const int neighbour = around(to - 1);
    Incoming rows;
    std::int64_t first = 0;
    for (const Run& keys : layout_.shard(rank_of(owner, member))) {
      const std::int64_t run_begin = first;
      first += keys.count;
      const Need own = need(to, keys);
      if (own == Need::none) continue;
      Rows& part = passes_on(neighbour, owner, keys) ? rows.passed : rows.served;
      if (own == Need::all) {  // whoever comes after cannot want more
        part.push_back({run_begin, first});
        continue;
      }
      Rows seen;
      if (to > owner) {
        add_seen(to, parties_, seen);
        if (needs(parties_ - 1, keys) && needs(0, keys)) add_seen(0, owner, seen);
      } else {
        add_seen(to, owner, seen);
      }
      for (const Interval& within : rows_within({keys}, joined(std::move(seen))))
        part.push_back({run_begin + within.begin, run_begin + within.end});
    }
    return {joined(std::move(rows.passed)), joined(std::move(rows.served))};
  }

  /// What a party passes on of the rows of `owner` that it has computed with.
  Rows passed_on(int party, int owner, int member) const {
    const int next = around(party + 1);
    return next == owner ? Rows{} : rows_to(next, owner, member).passed;
  }

  void pass_on(std::size_t step, int owner, int member, const Held& held) {
    if (held.rows.empty()) return;
    const Rows rows = passed_on(party_, owner, member);
    if (rows.empty()) return;
    const int next = rank_of(around(party_ + 1), member_);
    step_at(plan_, step).sends.push_back({next, held.buffer, within(held.rows, rows), kv_heads_});
  }

  /// Own party's keys for a party whose neighbour has no use for them.
  void serve(std::size_t step, int to, int member) {
    if (to == party_) return;
    const Shard own = layout_.shard(rank_of(party_, member));
    if (std::all_of(own.begin(), own.end(),
                    [&](const Run& keys) { return passes_on(around(to - 1), party_, keys); }))
      return;
    Rows rows = rows_to(to, party_, member).served;
    if (rows.empty()) return;
    step_at(plan_, step)
        .sends.push_back({rank_of(to, member_), home_[static_cast<std::size_t>(member)].buffer,
                          std::move(rows), kv_heads_});
  }

  /// Receives what is needed of the owner's keys into new buffers, if anything; they become what is held.
  void receive(std::size_t step, int owner, std::vector<Held>& held) {
    for (int member = 0; member < degree_; ++member) {
      const auto [passed, served] = rows_to(party_, owner, member);
      Held& block = held[static_cast<std::size_t>(member)];
      block = {};
      block.rows = Incoming{passed, served}.all();
      if (block.rows.empty()) continue;
      const int source = rank_of(owner, member);
      block.buffer = new_buffer(Payload::keys, source, select(layout_.shard(source), block.rows));
      Transfers& receives = step_at(plan_, step).receives;
      if (!passed.empty()) {
        receives.push_back(
            {rank_of(around(party_ - 1), member_), block.buffer, within(block.rows, passed), kv_heads_});
      }
      if (!served.empty()) {
        receives.push_back({rank_of(owner, member_), block.buffer, within(block.rows, served), kv_heads_});
      }
    }
  }

  /// The gradients of the keys held at a hop: room for the own share, those of the parties before to be
  /// added, and in the next step the sum passed on or sent home. And those of the own keys that come home
  /// then.
  void return_gradients(int hop, std::vector<Held>& held) {
    const std::size_t step = first_step_ + static_cast<std::size_t>(hop);
    const int owner = around(party_ - hop), holder = around(party_ + hop);
    for (int member = 0; member < degree_; ++member) {
      Held& block = held[static_cast<std::size_t>(member)];
      if (!block.rows.empty()) {
        const int source = rank_of(owner, member);
        const Shard shard = layout_.shard(source);
        block.gradients = new_buffer(Payload::key_gradients, source, select(shard, block.rows));
        if (const Rows passed = rows_to(party_, owner, member).passed; hop > 1 && !passed.empty()) {
          add_received(step, rank_of(around(party_ - 1), member_), source, passed, block.gradients,
                       within(block.rows, passed));
        }
        const Rows onward = passed_on(party_, owner, member), home = difference(block.rows, onward);
        Transfers& sends = step_at(plan_, step + 1).sends;
        if (!onward.empty()) {
          sends.push_back(
              {rank_of(around(party_ + 1), member_), block.gradients, within(block.rows, onward), kv_heads_});
        }
        if (!home.empty())
          sends.push_back({rank_of(owner, member_), block.gradients, within(block.rows, home), kv_heads_});
      }
      const Rows rows = difference(rows_to(holder, party_, member).all(), passed_on(holder, party_, member));
      if (!rows.empty()) {
        add_received(step + 1, rank_of(holder, member_), rank_of(party_, member), rows,
                     home_[static_cast<std::size_t>(member)].gradients, rows);
      }
    }
  }

  /// Gradients of rows of `source` that a peer sends, added to `into`.
  void add_received(std::size_t step, int peer, int source, const Rows& rows, int into, Rows into_rows) {
    const int part = new_buffer(Payload::key_gradients, source, select(layout_.shard(source), rows));
    step_at(plan_, step).receives.push_back(transfer_all(plan_, peer, part));
    step_at(plan_, step).merges.push_back({part, into, std::move(into_rows)});
  }

  /// Where the owner's rows `wanted` lie in a buffer that holds its rows `held`.
  static Rows within(const Rows& held, const Rows& wanted) {
    Rows rows;
    std::int64_t first = 0;
    for (const Interval& interval : held) {
      for (const Interval& part : wanted) {
        const Interval common = intersect(interval, part);
        rows.push_back({first + common.begin - interval.begin, first + common.end - interval.begin});
      }
      first += interval.size();
    }
    return joined(std::move(rows));
  }

  const Problem& problem_;
  const Layout& layout_;
  int degree_;
  int parties_;
  int party_;
  int member_;
  std::size_t first_step_ = degree_ > 1 ? 1 : 0;  // of the ring
  Interval heads_;                                // that this rank computes for its party
  Interval kv_heads_;                             // that they read
  // Between stripes keys_seen_by is only a hull: a window shorter than the stride passes most ranks by.
  bool window_ = problem_.pattern.kind == PatternKind::local || problem_.pattern.kind == PatternKind::global;
  RankPlan plan_;
  std::vector<Views> views_;            // [party]: each is asked for many times
  std::vector<MemberQueries> queries_;  // [member] of the own party
  std::vector<Held> home_;              // [member] of the own party
};

}  // namespace

RankPlan plan_party_ring(const Problem& problem, int rank, int degree) {
  return PartyRing(problem, rank, degree).make();
}

}  // namespace longseq
