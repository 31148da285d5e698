// Who sees whom. A Pattern is the one declaration from which everything else follows: the tiles a kernel
// computes, the keys a rank must receive, the FLOPs that count. Definitions: maths.md, section 2.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "kernels/positions.h"

namespace longseq {

enum class PatternKind { full, local, global, segment, document };

struct PatternRow {
  PatternKind kind;
  std::string_view name;
  std::string_view sees;  // what query i sees, one line, for --help and the documentation
};

/// The open set of patterns: the command line, the help text and the tests read this table.
inline constexpr std::array<PatternRow, 5> kPatterns{{
    {PatternKind::full, "full", "every key"},
    {PatternKind::local, "local", "keys i-left..i+right, both ends inclusive"},
    {PatternKind::global, "global", "its window and the first g tokens; the first g tokens see every key"},
    {PatternKind::segment, "segment",
     "its own segment up to itself and the M keys before it (Transformer-XL)"},
    {PatternKind::document, "document", "the keys of its own document (packed sequences)"},
}};

/// The keys that one query sees: at most two disjoint, ascending, half-open intervals.
struct VisibleKeys {
  Interval first;
  Interval second;
  constexpr std::int64_t count() const { return first.size() + second.size(); }
};

enum class Cover { none, partial, full };

struct Pattern {
  PatternKind kind = PatternKind::full;
  bool causal = false;
  std::int64_t seq_len = 0;
  std::int64_t window_left = 0;     // local, global: keys before the query, inclusive offset
  std::int64_t window_right = 0;    // local, global: keys after the query; a causal pattern cuts it to 0
  std::int64_t global_tokens = 0;   // global: g
  std::int64_t segment_length = 0;  // segment: T
  std::int64_t memory_length = 0;   // segment: M
  std::vector<std::int64_t> document_starts{};  // document: ascending, the first is 0, each < seq_len

  /// Throws std::invalid_argument, naming the value and what was expected, if the fields make no pattern.
  void check() const;

  /// The keys that query i sees, 0 <= i < seq_len.
  VisibleKeys visible_keys(std::int64_t i) const;

  /// Whether the queries see none, some or all of the keys (as pairs).
  Cover cover(Run queries, Run keys) const;

  /// The keys that at least one query of the run sees, as at most two disjoint ascending intervals: exact
  /// for stride 1, the hulls otherwise.
  VisibleKeys keys_seen_by(Run queries) const;

  /// The rows of `queries` between the first and the last that sees any of the keys, or a few more.
  Interval rows_that_see(Run queries, Run keys) const;

  /// The distances i − j between queries and keys that they see: those that occur lie within.
  Interval distances() const;

  /// The exact number of visible pairs, in closed form (per segment or document where there are such).
  std::int64_t area() const;

  /// The exact number of visible pairs (i, j) with i in `queries` and j in `keys`.
  std::int64_t area(Run queries, Run keys) const;
};

}  // namespace longseq
