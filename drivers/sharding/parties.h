// Parties of ranks in a ring: whose rows are whose, and who needs which of another party's keys.
#pragma once

#include <array>
#include <vector>

#include "drivers/sharding/plan.h"

namespace longseq {

/// An owner's rows that a party receives: what it and those that it passes them on to see.
struct Incoming {
  Rows passed{};  // by the party before it, which needed them too
  Rows served{};  // by their owner

  Rows all() const;
};

class Parties {
 public:
  /// `degree`: ranks of a party, which divides the number of ranks. `problem` must outlive this.
  Parties(const Problem& problem, int degree);

  int degree() const { return degree_; }
  int count() const { return count_; }
  /// The party of this number, counted round the ring: from one round before the first to one after the last.
  int around(int party) const {
    return party < 0 ? party + count_ : party >= count_ ? party - count_ : party;
  }
  int rank_of(int party, int member) const { return party * degree_ + member; }

  /// A party's positions. Rows of one member are in its own order; those of neighbours lie in one run where
  /// their positions do.
  const Shard& shard(int party) const { return shards_[static_cast<std::size_t>(party)]; }
  /// A member's rows of its party's shard.
  Rows rows_of(int party, int member) const;
  /// All rows of a party as one of its members holds them: its own, and the others', if there are any.
  std::array<Rows, 2> portions(int party, int member) const;
  /// Calls visit(part) for those of a party's rows that lie in either portion.
  template <class Visit>
  void for_each_portion(int party, int member, const Rows& rows, const Visit& visit) const {
    if (degree_ == 1) return visit(rows);
    for (const Rows& portion : portions(party, member)) visit(intersect(rows, portion));
  }

  /// A party gives the owner's keys to the party after it if it is the owner, or had a use for some of them.
  Incoming rows_to(int to, int owner) const;
  /// Whether the owner itself gives none of its keys to this party: the one before has a use for all runs.
  bool serves_nothing(int to, int owner) const;

 private:
  /// Queries of a party, and the keys that they see.
  struct View {
    Run queries;
    VisibleKeys keys;
  };
  /// How much of some keys a party sees.
  enum class Need { none, some, all };

  Shard positions_of(int party) const;
  Need need(int party, const Run& keys) const;
  bool needs(int party, const Run& keys) const { return need(party, keys) != Need::none; }
  void add_seen(int begin, int end, Rows& seen) const;

  const Pattern& pattern_;
  const Layout& layout_;
  int degree_;
  int count_;
  bool everything_;                                             // is seen by all
  bool windows_;                                                // see need()
  std::vector<Shard> shards_;                                   // [party]
  std::vector<boost::container::small_vector<View, 2>> views_;  // [party]: each is asked for many times
};

}  // namespace longseq
