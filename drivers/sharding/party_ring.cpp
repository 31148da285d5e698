#include "drivers/sharding/party_ring.h"

#include <array>
#include <memory>
#include <utility>
#include <vector>

#include "drivers/sharding/parties.h"
#include "drivers/sharding/plan_builder.h"

namespace longseq {
namespace {

/// Rows of the own party that lie in the same buffers: this rank's own, or those of the others.
struct Portion {
  Rows rows;  // of the party's shard
  Tile tile;  // the buffers: queries for the own heads, where their results go, keys and their gradients
  SeeingRuns queries;  // all of them
};

/// Rows of another party's keys that this rank holds, and where: of the keys, and of their gradients.
struct Held {
  int buffer = -1;
  int gradients = -1;
  Rows rows{};    // of that party's shard
  Rows passed{};  // those of them that came from the party before this one
  Rows onward{};  // those that go on to the party after it
};

class PartyRing {
 public:
  PartyRing(const Problem& problem, const Parties& parties, int rank)
      : problem_(problem),
        degree_(parties.degree()),
        parties_(parties),
        party_(rank / degree_),
        member_(rank % degree_),
        heads_(heads_of(member_)),
        kv_heads_(problem.kv_heads_of(heads_)),
        plan_(problem, rank) {}

  RankPlan make() {
    plan_.set_own_heads(heads_);
    plan_.reserve(static_cast<std::size_t>(parties_.count()) + 3);
    if (degree_ > 1) give_shares();
    if (!heads_.empty()) {
      find_portions();
      go_round();
    }
    if (degree_ > 1) return_results();
    return plan_.finish();
  }

 private:
  bool backward() const { return problem_.pass == Pass::backward; }
  /// The rank of another party, counted round the ring, that computes the same heads.
  int peer_in(int party) const { return parties_.rank_of(parties_.around(party), member_); }
  int member_rank(int member) const { return parties_.rank_of(party_, member); }
  Interval heads_of(int member) const { return part_of(problem_.heads, degree_, member); }
  Interval heads_of(int member, Payload payload) const {
    return of_keys(payload) ? problem_.kv_heads_of(heads_of(member)) : heads_of(member);
  }

  /// Whether other members read some of the same key heads.
  bool shares_key_heads(int member) const {
    const Interval heads = heads_of(member);
    return heads.begin % problem_.group() != 0 || heads.end % problem_.group() != 0;
  }

  /// For some rows of a party.
  int new_buffer(Payload payload, int party, const Rows& rows) {
    return plan_.add_buffer(payload, parties_.shard(party), rows, of_keys(payload) ? kv_heads_ : heads_);
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
        send_own(0, member_rank(member), own_tile().*buffer, heads_of(member, payload));
    }
  }

  void send_own(std::size_t step, int peer, int buffer, Interval heads) {
    const Rows rows = plan_.all_rows(buffer);
    if (!rows.empty() && !heads.empty()) plan_.send(step, peer, buffer, rows, heads);
  }

  /// The party's rows for the own heads: the others' queries and keys are received in the first step.
  void find_portions() {
    auto [own, others] = parties_.portions(party_, member_);
    Tile tile = own_tile();
    tile.heads = heads_;
    add_portion(std::move(own), tile);
    if (others.empty()) return;
    for (const auto& [payload, buffer] : shared()) tile.*buffer = new_buffer(payload, party_, others);
    for (const auto& [payload, buffer] : results()) tile.*buffer = new_buffer(payload, party_, others);
    for (int member = 0; member < degree_; ++member) {
      const Rows rows = member == member_ ? Rows{} : within(others, parties_.rows_of(party_, member));
      if (rows.empty()) continue;
      for (const auto& [payload, buffer] : shared())
        plan_.receive(0, member_rank(member), tile.*buffer, rows);
    }
    add_portion(std::move(others), tile);
  }

  void add_portion(Rows rows, const Tile& tile) {
    portions_.push_back({std::move(rows), tile, {}});
    portions_.back().queries =
        seeing_runs(problem_.pattern, plan_.positions_of(tile.queries), plan_.all_rows(tile.queries));
  }

  /// Results back to those whose rows they are.
  void return_results() {
    // After the ring, and backward after the gradients that come home: the same step for ranks without heads.
    const std::size_t last = first_step() + static_cast<std::size_t>(parties_.count()) +
                             (backward() && parties_.count() > 1 ? 1 : 0);
    plan_.step_at(last);
    const Rows own_rows = plan_.all_rows(kOwnQueries);
    for (int member = 0; member < degree_; ++member) {
      if (member == member_) continue;
      const int peer = member_rank(member);
      const Rows theirs =
          portions_.size() > 1 ? within(portions_[1].rows, parties_.rows_of(party_, member)) : Rows{};
      for (const auto& [payload, buffer] : results()) {
        if (!theirs.empty()) plan_.send(last, peer, portions_[1].tile.*buffer, theirs);
        const Interval heads = heads_of(member, payload);
        if (heads.empty() || own_rows.empty()) continue;
        const int own = own_tile().*buffer;
        if (payload == Payload::key_gradients && shares_key_heads(member)) {  // their gradients add up
          const int part = plan_.add_buffer(payload, problem_.layout.shard(plan_.rank()), heads);
          plan_.receive(last, peer, part);
          plan_.merge(last, part, own, own_rows);
        } else {
          plan_.receive(last, peer, own, own_rows, heads);
        }
      }
    }
  }

  // ---- from party to party

  std::size_t first_step() const { return degree_ > 1 ? 1 : 0; }

  void go_round() {
    const bool halves = backward() && parties_.count() > 1;
    const std::size_t home = first_step() + static_cast<std::size_t>(parties_.count());  // gradients are
    plan_.step_at(home - 1);
    compute_own(first_step(), 0, halves ? 2 : 1);
    std::array<Held, 2> both;  // of this hop and the next
    Rows given;                // of the own keys, to the party `hop` places after this one
    for (int hop = 0; hop < parties_.count(); ++hop) {
      const std::size_t step = first_step() + static_cast<std::size_t>(hop);
      const bool last = hop + 1 == parties_.count();
      Held& held = both[static_cast<std::size_t>(hop % 2)];
      Held& next = both[static_cast<std::size_t>(1 - hop % 2)];
      const Incoming given_next = last ? Incoming{} : given_to(parties_.around(party_ + hop + 1));
      if (!held.rows.empty()) take_in(step, hop, held);
      if (!last) {
        if (!held.onward.empty())
          plan_.send(step, peer_in(party_ + 1), held.buffer, within(held.rows, held.onward), kv_heads_);
        send_keys(step, party_ + hop + 1, hop == 0 ? given_next.passed : given_next.served);
        receive(step, parties_.around(party_ - hop - 1), next);
      }
      if (hop > 0 && backward()) {
        return_gradients(step + 1, hop, held);
        receive_gradients(step + 1, hop, difference(given, given_next.passed));
      }
      if (backward()) given = given_next.all();
    }
    if (halves) compute_own(home, 1, 2);
  }

  /// Forward only what the owner itself gives away is asked for.
  Incoming given_to(int party) const {
    if (!backward() && parties_.serves_nothing(party, party_)) return {};
    return parties_.rows_to(party, party_);
  }

  /// Part `part` of `parts` of the queries on the party's own keys: backward half of them come last, beside
  /// the gradients that come home.
  void compute_own(std::size_t step, int part, int parts) {
    for (const Portion& keys : portions_) {
      for (const Portion& queries : portions_) {
        plan_.compute(step, tile_of(queries, keys.tile.keys, keys.tile.key_gradients),
                      rows_from(part_of(count_rows(queries.rows), parts, part)));
      }
    }
  }

  /// All queries on the keys that are held; backward there is room for their gradients, to which those of the
  /// parties before are added.
  void take_in(std::size_t step, int hop, Held& held) {
    if (backward()) {
      const int owner = parties_.around(party_ - hop);
      held.gradients = new_buffer(Payload::key_gradients, owner, held.rows);
      if (hop > 1 && !held.passed.empty()) {
        add_received(step, peer_in(party_ - 1), owner, held.passed, held.gradients,
                     within(held.rows, held.passed));
      }
    }
    for (const Portion& queries : portions_)
      plan_.compute(step, tile_of(queries, held.buffer, held.gradients), queries.queries);
  }

  Tile tile_of(const Portion& queries, int keys, int key_gradients) const {
    Tile tile = queries.tile;
    tile.keys = keys;
    if (backward()) tile.key_gradients = key_gradients;
    return tile;
  }

  /// Own party's keys to another's rank with the same heads.
  void send_keys(std::size_t step, int to, const Rows& rows) {
    if (rows.empty()) return;
    for (const Portion& portion : portions_) {
      if (const Rows own = within(portion.rows, rows); !own.empty())
        plan_.send(step, peer_in(to), portion.tile.keys, own, kv_heads_);
    }
  }

  /// Receives what is needed of the owner's keys into a new buffer, if anything: what is held then.
  void receive(std::size_t step, int owner, Held& held) {
    const Incoming incoming = parties_.rows_to(party_, owner);
    held.rows = incoming.all();
    held.passed = incoming.passed;
    held.onward.clear();
    if (held.rows.empty()) return;
    const int next = parties_.around(party_ + 1), before = parties_.around(party_ - 1);
    if (next != owner) held.onward = parties_.rows_to(next, owner).passed;
    held.buffer = new_buffer(Payload::keys, owner, held.rows);
    const auto from = [&](int party, const Rows& rows) {
      if (!rows.empty()) plan_.receive(step, peer_in(party), held.buffer, within(held.rows, rows), kv_heads_);
    };
    const auto from_owner = [&](const Rows& rows) {  // which has them in two buffers
      parties_.for_each_portion(owner, member_, rows, [&](const Rows& part) { from(owner, part); });
    };
    if (before == owner) {
      from_owner(incoming.passed);
    } else {
      from(before, incoming.passed);
    }
    from_owner(incoming.served);
  }

  /// The gradients of keys that were held at a hop: passed on, or sent home.
  void return_gradients(std::size_t step, int hop, const Held& held) {
    if (held.rows.empty()) return;
    const int owner = parties_.around(party_ - hop);
    const auto send = [&](int party, const Rows& rows) {
      if (!rows.empty()) plan_.send(step, peer_in(party), held.gradients, within(held.rows, rows), kv_heads_);
    };
    send(party_ + 1, held.onward);
    parties_.for_each_portion(owner, member_, difference(held.rows, held.onward),
                              [&](const Rows& part) { send(owner, part); });
  }

  /// Those of these own rows that come home from the party that held them at a hop.
  void receive_gradients(std::size_t step, int hop, const Rows& home) {
    if (home.empty()) return;
    for (const Portion& portion : portions_) {
      const Rows rows = intersect(home, portion.rows);
      if (rows.empty()) continue;
      add_received(step, peer_in(parties_.around(party_ + hop)), party_, rows, portion.tile.key_gradients,
                   within(portion.rows, rows));
    }
  }

  /// Gradients of a party's rows that a peer sends, added to `into`.
  void add_received(std::size_t step, int peer, int party, const Rows& rows, int into,
                    const Rows& into_rows) {
    const int part = new_buffer(Payload::key_gradients, party, rows);
    plan_.receive(step, peer, part);
    plan_.merge(step, part, into, into_rows);
  }

  /// Where the rows `wanted` lie in a buffer that holds the rows `held`.
  static Rows within(const Rows& held, const Rows& wanted) {
    Rows rows;
    std::int64_t first = 0;
    for (const Interval& interval : held) {
      for (const Interval& part : wanted)
        append(rows, intersect(interval, part).shifted(first - interval.begin));
      first += interval.size();
    }
    return rows;
  }

  const Problem& problem_;
  int degree_;
  const Parties& parties_;
  int party_;
  int member_;
  Interval heads_;     // that this rank computes for its party
  Interval kv_heads_;  // that they read
  PlanBuilder plan_;
  std::vector<Portion> portions_;  // of the own party; empty if there are no heads to compute
};

}  // namespace

PlanRank party_ring(const Problem& problem, int degree) {
  return [&problem, parties = std::make_shared<const Parties>(problem, degree)](int rank) {
    return PartyRing(problem, *parties, rank).make();
  };
}

}  // namespace longseq
