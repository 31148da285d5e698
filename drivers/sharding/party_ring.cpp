#include "drivers/sharding/party_ring.h"

#include <utility>

#include "drivers/sharding/parties.h"

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

class PartyRing {
 public:
  PartyRing(const Problem& problem, int rank, int degree)
      : problem_(problem),
        layout_(problem.layout),
        degree_(degree),
        parties_(problem, degree),
        party_(rank / degree),
        member_(rank % degree),
        heads_(heads_of(member_)),
        kv_heads_(problem.kv_heads_of(heads_)),
        plan_(start_plan(problem, rank)) {}

  RankPlan make() {
    plan_.own_heads = heads_;
    plan_.steps.reserve(static_cast<std::size_t>(parties_.count()) + 3);
    const int of_hop = backward() ? 4 : 1;  // buffers
    plan_.buffers.reserve(plan_.buffers.size() + static_cast<std::size_t>(of_hop * parties_.count()) + 8);
    step_at(plan_, 0);
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
        send_own(0, member_rank(member), own_tile().*buffer, heads_of(member, payload));
    }
  }

  void send_own(std::size_t step, int peer, int buffer, Interval heads) {
    Rows rows = all_rows(buffer_of(plan_, buffer));
    if (!rows.empty() && !heads.empty())
      step_at(plan_, step).sends.push_back({peer, buffer, std::move(rows), heads});
  }

  /// The party's rows for the own heads: the others' queries and keys are received in the first step.
  void find_portions() {
    auto [own, others] = parties_.portions(party_, member_);
    portions_.push_back({std::move(own), own_tile()});
    portions_.back().tile.heads = heads_;
    if (others.empty()) return;
    const Shard positions = select(parties_.shard(party_), others);
    Tile tile{.heads = heads_};
    for (const auto& [payload, buffer] : shared()) tile.*buffer = new_buffer(payload, positions);
    for (const auto& [payload, buffer] : results()) tile.*buffer = new_buffer(payload, positions);
    for (int member = 0; member < degree_; ++member) {
      const Rows rows = member == member_ ? Rows{} : within(others, parties_.rows_of(party_, member));
      if (rows.empty()) continue;
      for (const auto& [payload, buffer] : shared())
        step_at(plan_, 0).receives.push_back(transfer(plan_, member_rank(member), tile.*buffer, rows));
    }
    portions_.push_back({std::move(others), tile});
  }

  /// Results back to those whose rows they are.
  void return_results() {
    // After the ring, and backward after the gradients that come home: the same step for ranks without heads.
    const std::size_t last = first_step_ + static_cast<std::size_t>(parties_.count()) +
                             (backward() && parties_.count() > 1 ? 1 : 0);
    const Rows own_rows = all_rows(buffer_of(plan_, kOwnQueries));
    Step& step = step_at(plan_, last);
    for (int member = 0; member < degree_; ++member) {
      if (member == member_) continue;
      const int peer = member_rank(member);
      const Rows theirs =
          portions_.size() > 1 ? within(portions_[1].rows, parties_.rows_of(party_, member)) : Rows{};
      for (const auto& [payload, buffer] : results()) {
        if (!theirs.empty()) step.sends.push_back(transfer(plan_, peer, portions_[1].tile.*buffer, theirs));
        const Interval heads = heads_of(member, payload);
        if (heads.empty() || own_rows.empty()) continue;
        const int own = own_tile().*buffer;
        if (payload == Payload::key_gradients && shares_key_heads(member)) {  // their gradients add up
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

  void go_round() {
    Held held;
    Incoming given;  // of the own keys, to the party `hop` places after this one
    for (int hop = 0; hop < parties_.count(); ++hop) {
      const std::size_t step = first_step_ + static_cast<std::size_t>(hop);
      const bool last = hop + 1 == parties_.count();
      step_at(plan_, step);
      Incoming given_next = last ? Incoming{} : given_to(parties_.around(party_ + hop + 1));
      if (hop == 0) {
        compute_own();
      } else {
        if (backward()) return_gradients(hop, held, difference(given.all(), given_next.passed));
        compute(step, held.buffer, held.gradients, held.rows, 0, 1);
      }
      if (last) break;
      if (hop == 0) {
        send_keys(step, party_ + 1, given_next.passed);
      } else {
        if (!held.onward.empty()) {
          step_at(plan_, step)
              .sends.push_back({peer_in(party_ + 1), held.buffer, within(held.rows, held.onward), kv_heads_});
        }
        send_keys(step, party_ + hop + 1, given_next.served);
      }
      held = receive(step, parties_.around(party_ - hop - 1));
      given = std::move(given_next);
    }
  }

  /// Forward only what the owner itself gives away is asked for.
  Incoming given_to(int party) const {
    if (!backward() && parties_.serves_nothing(party, party_)) return {};
    return parties_.rows_to(party, party_);
  }

  /// Queries on the party's own keys: backward half of them last, beside the gradients that come home.
  void compute_own() {
    const bool halves = backward() && parties_.count() > 1;
    for (const Portion& portion : portions_) {
      const auto compute_part = [&](std::size_t step, int part) {
        compute(step, portion.tile.keys, portion.tile.key_gradients, portion.rows, part, halves ? 2 : 1);
      };
      compute_part(first_step_, 0);
      if (halves) compute_part(first_step_ + static_cast<std::size_t>(parties_.count()), 1);
    }
  }

  /// Part `part` of `parts` of the rows of each portion's queries on some keys.
  void compute(std::size_t step, int keys, int gradients, const Rows& key_rows, int part, int parts) {
    if (key_rows.empty()) return;
    for (const Portion& portion : portions_) {
      Tile tile = portion.tile;
      tile.keys = keys;
      if (backward()) tile.key_gradients = gradients;
      add_tiles(problem_, plan_, tile, rows_from(part_of(count_rows(portion.rows), parts, part)),
                step_at(plan_, step).tiles);
    }
  }

  /// Own party's keys to another's rank with the same heads.
  void send_keys(std::size_t step, int to, const Rows& rows) {
    for (const Portion& portion : portions_) {
      if (Rows own = within(portion.rows, rows); !own.empty()) {
        step_at(plan_, step).sends.push_back({peer_in(to), portion.tile.keys, std::move(own), kv_heads_});
      }
    }
  }

  /// Receives what is needed of the owner's keys into a new buffer, if anything.
  Held receive(std::size_t step, int owner) {
    const Incoming incoming = parties_.rows_to(party_, owner);
    Held held;
    held.rows = incoming.all();
    if (held.rows.empty()) return held;
    const int next = parties_.around(party_ + 1), before = parties_.around(party_ - 1);
    held.passed = incoming.passed;
    if (next != owner) held.onward = parties_.rows_to(next, owner).passed;
    held.buffer = new_buffer(Payload::keys, select(parties_.shard(owner), held.rows));
    const auto from = [&](int party, const Rows& rows) {
      if (rows.empty()) return;
      step_at(plan_, step)
          .receives.push_back({peer_in(party), held.buffer, within(held.rows, rows), kv_heads_});
    };
    const auto from_owner = [&](const Rows& rows) {  // which has them in two buffers
      if (rows.empty()) return;
      for (const Rows& portion : parties_.portions(owner, member_)) from(owner, intersect(rows, portion));
    };
    if (before == owner) {
      from_owner(incoming.passed);
    } else {
      from(before, incoming.passed);
    }
    from_owner(incoming.served);
    return held;
  }

  /// The gradients of the keys held at a hop: room for the own share, those of the parties before to be
  /// added, and in the next step the sum passed on or sent home. And those of the own party's rows `home`
  /// that come home then.
  void return_gradients(int hop, Held& held, const Rows& home) {
    const std::size_t step = first_step_ + static_cast<std::size_t>(hop);
    const int owner = parties_.around(party_ - hop), holder = parties_.around(party_ + hop);
    if (!held.rows.empty()) {
      const Shard& shard = parties_.shard(owner);
      held.gradients = new_buffer(Payload::key_gradients, select(shard, held.rows));
      if (hop > 1 && !held.passed.empty()) {
        add_received(step, peer_in(party_ - 1), select(shard, held.passed), held.gradients,
                     within(held.rows, held.passed));
      }
      const auto send = [&](int party, const Rows& rows) {
        if (rows.empty()) return;
        step_at(plan_, step + 1)
            .sends.push_back({peer_in(party), held.gradients, within(held.rows, rows), kv_heads_});
      };
      send(party_ + 1, held.onward);
      const Rows to_owner = difference(held.rows, held.onward);
      if (!to_owner.empty()) {
        for (const Rows& portion : parties_.portions(owner, member_))
          send(owner, intersect(to_owner, portion));
      }
    }
    for (const Portion& portion : portions_) {
      const Rows rows = intersect(home, portion.rows);
      if (rows.empty()) continue;
      add_received(step + 1, peer_in(holder), select(parties_.shard(party_), rows),
                   portion.tile.key_gradients, within(portion.rows, rows));
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
        rows.push_back(common.shifted(first - interval.begin));
      }
      first += interval.size();
    }
    join(rows);
    return rows;
  }

  const Problem& problem_;
  const Layout& layout_;
  int degree_;
  Parties parties_;
  int party_;
  int member_;
  std::size_t first_step_ = degree_ > 1 ? 1 : 0;  // of the ring
  Interval heads_;                                // that this rank computes for its party
  Interval kv_heads_;                             // that they read
  RankPlan plan_;
  std::vector<Portion> portions_;  // of the own party; empty if there are no heads to compute
};

}  // namespace

RankPlan plan_party_ring(const Problem& problem, int rank, int degree) {
  return PartyRing(problem, rank, degree).make();
}

}  // namespace longseq
