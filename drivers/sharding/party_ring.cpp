#include "drivers/sharding/party_ring.h"

#include <algorithm>
#include <array>
#include <utility>

namespace longseq {
namespace {

/// Rows of the own party that lie in the same buffers: this rank's own, or those of the others.
struct Portion {
  Rows rows;  // of the party's shard
  Tile tile;  // the buffers: queries for the own heads, where their results go, keys and their gradients
};

/// Rows of another party's keys that this rank holds, and where: of the keys, and of their gradients.
struct Held {
  int buffer = -1;
  int gradients = -1;
  Rows rows{};    // of that party's shard
  Rows passed{};  // those of them that came from the party before this one
  Rows onward{};  // those that go on to the party after it
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
    plan_.buffers.reserve(plan_.buffers.size() + static_cast<std::size_t>(4 * parties_) + 8);
    step_at(plan_, 0);
    for (int party = 0; party < parties_; ++party) {
      shards_.push_back(shard_of(party));
      views_.push_back(views_of(party));
    }
    if (degree_ > 1) give_shares();
    if (!heads_.empty()) {
      find_portions();
      go_round();
    }
    if (degree_ > 1) return_results();
    place_buffers(problem_, plan_);
    return std::move(plan_);
  }

 private:
  bool backward() const { return problem_.pass == Pass::backward; }
  int around(int party) const { return (party + 2 * parties_) % parties_; }
  int rank_of(int party, int member) const { return party * degree_ + member; }
  Interval heads_of(int member) const { return part_of(problem_.heads, degree_, member); }
  Interval heads_of(int member, Payload payload) const {
    return of_keys(payload) ? problem_.kv_heads_of(heads_of(member)) : heads_of(member);
  }

  /// A party's positions. Rows of one member are in its own order; those of neighbours lie in one run where
  /// their positions do.
  Shard shard_of(int party) const {
    const int first = rank_of(party, 0), end = rank_of(party + 1, 0);
    if (layout_.kind != LayoutKind::striped) return layout_.span(first, end);
    Shard shard;
    for (int rank = first; rank < end; ++rank) {
      for (const Run& run : layout_.shard(rank)) shard.push_back(run);
    }
    return shard;
  }

  /// A member's rows of its party's shard.
  Rows rows_of(int party, int member) const {
    if (layout_.kind == LayoutKind::striped) {
      std::int64_t first = 0;
      for (int before = 0; before < member; ++before)
        first += tokens_in(layout_.shard(rank_of(party, before)));
      return joined({{first, first + tokens_in(layout_.shard(rank_of(party, member)))}});
    }
    Rows positions;
    for (const Run& run : layout_.shard(rank_of(party, member)))
      positions.push_back({run.start, run.start + run.count});
    return rows_within(shards_[static_cast<std::size_t>(party)], positions);
  }

  /// A party's rows as a rank of it holds them: its own, and the others'.
  std::array<Rows, 2> portions_of(int party) const {
    const Rows all = joined({{0, tokens_in(shards_[static_cast<std::size_t>(party)])}});
    if (degree_ == 1) return {all, Rows{}};
    const Rows own = rows_of(party, member_);
    return {own, difference(all, own)};
  }

  int new_buffer(Payload payload, Shard positions) {
    return add_buffer(plan_, payload, std::move(positions), of_keys(payload) ? kv_heads_ : heads_);
  }

  // ---- within the party

  using Payloads = boost::container::small_vector<std::pair<Payload, int Tile::*>, 4>;

  /// What a party shares out before its ring, and what its members have for each other afterwards.
  Payloads shared() const {
    Payloads payloads{{Payload::queries, &Tile::queries}, {Payload::keys, &Tile::keys}};
    if (backward()) {
      payloads.push_back({Payload::output_gradients, &Tile::output_gradients});
      payloads.push_back({Payload::statistics, &Tile::statistics});
    }
    return payloads;
  }
  Payloads results() const {
    if (backward())
      return {{Payload::query_gradients, &Tile::into}, {Payload::key_gradients, &Tile::key_gradients}};
    return {{Payload::outputs, &Tile::into}, {Payload::lse, &Tile::lse}};
  }

  /// The buffers that are this rank's own tensors.
  Tile own_tile() const { return {.into = own_results(problem_)}; }

  /// Own queries and keys for the others' heads to them.
  void give_shares() {
    for (int member = 0; member < degree_; ++member) {
      if (member == member_) continue;
      for (const auto& [payload, buffer] : shared())
        send_own(0, rank_of(party_, member), own_tile().*buffer, heads_of(member, payload));
    }
  }

  void send_own(std::size_t step, int peer, int buffer, Interval heads) {
    Rows rows = all_rows(buffer_of(plan_, buffer));
    if (!rows.empty() && !heads.empty())
      step_at(plan_, step).sends.push_back({peer, buffer, std::move(rows), heads});
  }

  /// The party's rows for the own heads: the others' queries and keys are received in the first step.
  void find_portions() {
    auto [own, others] = portions_of(party_);
    portions_.push_back({std::move(own), own_tile()});
    portions_.back().tile.heads = heads_;
    if (others.empty()) return;
    const Shard positions = select(shards_[static_cast<std::size_t>(party_)], others);
    Tile tile{.heads = heads_};
    for (const auto& [payload, buffer] : shared()) tile.*buffer = new_buffer(payload, positions);
    for (const auto& [payload, buffer] : results()) tile.*buffer = new_buffer(payload, positions);
    for (int member = 0; member < degree_; ++member) {
      const Rows rows = member == member_ ? Rows{} : within(others, rows_of(party_, member));
      if (rows.empty()) continue;
      for (const auto& [payload, buffer] : shared())
        step_at(plan_, 0).receives.push_back(transfer(plan_, rank_of(party_, member), tile.*buffer, rows));
    }
    portions_.push_back({std::move(others), tile});
  }

  /// Results back to those whose rows they are.
  void return_results() {
    // After the ring, and backward after the gradients that come home: the same step for ranks without heads.
    const std::size_t last =
        first_step_ + static_cast<std::size_t>(parties_) + (backward() && parties_ > 1 ? 1 : 0);
    const Rows own_rows = all_rows(buffer_of(plan_, kOwnQueries));
    Step& step = step_at(plan_, last);
    for (int member = 0; member < degree_; ++member) {
      if (member == member_) continue;
      const int peer = rank_of(party_, member);
      const Rows theirs = portions_.size() > 1 ? within(portions_[1].rows, rows_of(party_, member)) : Rows{};
      for (const auto& [payload, buffer] : results()) {
        if (!theirs.empty()) step.sends.push_back(transfer(plan_, peer, portions_[1].tile.*buffer, theirs));
        const Interval heads = heads_of(member, payload);
        if (heads.empty() || own_rows.empty()) continue;
        const int own = own_tile().*buffer;
        if (payload == Payload::key_gradients) {  // key heads may be shared: members' gradients add up
          const int part = add_buffer(plan_, payload, layout_.shard(plan_.rank), heads);
          step.receives.push_back(transfer_all(plan_, peer, part));
          step.merges.push_back({part, own, own_rows});
        } else {
          step.receives.push_back({peer, own, own_rows, heads});
        }
      }
    }
  }

  // ---- from party to party

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

  void go_round() {
    Held held;
    Incoming given;  // of the own keys, to the party `hop` places after this one
    for (int hop = 0; hop < parties_; ++hop) {
      const std::size_t step = first_step_ + static_cast<std::size_t>(hop);
      const bool last = hop + 1 == parties_;
      step_at(plan_, step);
      Incoming given_next = last ? Incoming{} : given_to(around(party_ + hop + 1));
      if (hop == 0) {
        compute_own();
      } else {
        if (backward()) return_gradients(hop, held, difference(given.all(), given_next.passed));
        compute(step, held.buffer, held.gradients, held.rows, 0, 1);
      }
      if (last) break;
      if (hop == 0) {
        send_keys(step, around(party_ + 1), given_next.passed);
      } else {
        if (!held.onward.empty()) {
          step_at(plan_, step)
              .sends.push_back({rank_of(around(party_ + 1), member_), held.buffer,
                                within(held.rows, held.onward), kv_heads_});
        }
        send_keys(step, around(party_ + hop + 1), given_next.served);
      }
      held = receive(step, around(party_ - hop - 1));
      given = std::move(given_next);
    }
  }

  /// Forward only what the owner itself gives away is asked for.
  Incoming given_to(int party) const {
    const int neighbour = around(party - 1);
    const Shard& own = shards_[static_cast<std::size_t>(party_)];
    if (!backward() && neighbour != party_ &&
        std::all_of(own.begin(), own.end(), [&](const Run& keys) { return needs(neighbour, keys); }))
      return {};
    return rows_to(party, party_);
  }

  /// Queries on the party's own keys: backward half of them last, beside the gradients that come home.
  void compute_own() {
    const bool halves = backward() && parties_ > 1;
    for (const Portion& portion : portions_) {
      const auto compute_part = [&](std::size_t step, int part) {
        compute(step, portion.tile.keys, portion.tile.key_gradients, portion.rows, part, halves ? 2 : 1);
      };
      compute_part(first_step_, 0);
      if (halves) compute_part(first_step_ + static_cast<std::size_t>(parties_), 1);
    }
  }

  /// Part `part` of `parts` of the rows of each portion's queries on some keys.
  void compute(std::size_t step, int keys, int gradients, const Rows& key_rows, int part, int parts) {
    if (key_rows.empty()) return;
    for (const Portion& portion : portions_) {
      Tile tile = portion.tile;
      tile.keys = keys;
      if (backward()) tile.key_gradients = gradients;
      add_tiles(problem_, plan_, tile, joined({part_of(count_rows(portion.rows), parts, part)}),
                step_at(plan_, step).tiles);
    }
  }

  using Views = boost::container::small_vector<View, 2>;

  Views views_of(int party) const {
    Views views;
    for (const Run& queries : shards_[static_cast<std::size_t>(party)])
      views.push_back({queries, problem_.pattern.keys_seen_by(queries)});
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

  /// A party gives the owner's keys to the party after it if it is the owner, or had a use for some of them.
  Incoming rows_to(int to, int owner) const {
    const int neighbour = around(to - 1);
    Incoming rows;
    std::int64_t first = 0;
    for (const Run& keys : shards_[static_cast<std::size_t>(owner)]) {
      const std::int64_t run_begin = first;
      first += keys.count;
      const Need own = need(to, keys);
      if (own == Need::none) continue;
      Rows& part = neighbour == owner || needs(neighbour, keys) ? rows.passed : rows.served;
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

  /// Own party's keys to another's rank with the same heads.
  void send_keys(std::size_t step, int to, const Rows& rows) {
    for (const Portion& portion : portions_) {
      if (Rows own = within(portion.rows, rows); !own.empty()) {
        step_at(plan_, step)
            .sends.push_back({rank_of(to, member_), portion.tile.keys, std::move(own), kv_heads_});
      }
    }
  }

  /// Receives what is needed of the owner's keys into a new buffer, if anything.
  Held receive(std::size_t step, int owner) {
    const auto [passed, served] = rows_to(party_, owner);
    Held held;
    held.rows = Incoming{passed, served}.all();
    if (held.rows.empty()) return held;
    const int next = around(party_ + 1), before = around(party_ - 1);
    held.passed = passed;
    if (next != owner) held.onward = rows_to(next, owner).passed;
    held.buffer = new_buffer(Payload::keys, select(shards_[static_cast<std::size_t>(owner)], held.rows));
    const auto from = [&](int party, const Rows& rows) {
      if (rows.empty()) return;
      step_at(plan_, step)
          .receives.push_back({rank_of(party, member_), held.buffer, within(held.rows, rows), kv_heads_});
    };
    const auto from_owner = [&](const Rows& rows) {  // which has them in two buffers
      if (rows.empty()) return;
      for (const Rows& portion : portions_of(owner)) from(owner, intersect(rows, portion));
    };
    if (before == owner) {
      from_owner(passed);
    } else {
      from(before, passed);
    }
    from_owner(served);
    return held;
  }

  /// The gradients of the keys held at a hop: room for the own share, those of the parties before to be
  /// added, and in the next step the sum passed on or sent home. And those of the own party's rows `home`
  /// that come home then.
  void return_gradients(int hop, Held& held, const Rows& home) {
    const std::size_t step = first_step_ + static_cast<std::size_t>(hop);
    const int owner = around(party_ - hop), holder = around(party_ + hop);
    if (!held.rows.empty()) {
      const Shard& shard = shards_[static_cast<std::size_t>(owner)];
      held.gradients = new_buffer(Payload::key_gradients, select(shard, held.rows));
      if (hop > 1 && !held.passed.empty()) {
        add_received(step, rank_of(around(party_ - 1), member_), select(shard, held.passed), held.gradients,
                     within(held.rows, held.passed));
      }
      const auto send = [&](int party, const Rows& rows) {
        if (rows.empty()) return;
        step_at(plan_, step + 1)
            .sends.push_back({rank_of(party, member_), held.gradients, within(held.rows, rows), kv_heads_});
      };
      send(around(party_ + 1), held.onward);
      const Rows to_owner = difference(held.rows, held.onward);
      if (!to_owner.empty()) {
        for (const Rows& portion : portions_of(owner)) send(owner, intersect(to_owner, portion));
      }
    }
    for (const Portion& portion : portions_) {
      const Rows rows = intersect(home, portion.rows);
      if (rows.empty()) continue;
      add_received(step + 1, rank_of(holder, member_),
                   select(shards_[static_cast<std::size_t>(party_)], rows), portion.tile.key_gradients,
                   within(portion.rows, rows));
    }
  }

  /// Gradients of these positions that a peer sends, added to `into`.
  void add_received(std::size_t step, int peer, Shard positions, int into, Rows into_rows) {
    const int part = new_buffer(Payload::key_gradients, std::move(positions));
    step_at(plan_, step).receives.push_back(transfer_all(plan_, peer, part));
    step_at(plan_, step).merges.push_back({part, into, std::move(into_rows)});
  }

  /// Where the rows `wanted` lie in a buffer that holds the rows `held`.
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
  std::vector<Shard> shards_;      // [party]
  std::vector<Views> views_;       // [party]: each is asked for many times
  std::vector<Portion> portions_;  // of the own party; empty if there are no heads to compute
};

}  // namespace

RankPlan plan_party_ring(const Problem& problem, int rank, int degree) {
  return PartyRing(problem, rank, degree).make();
}

}  // namespace longseq
