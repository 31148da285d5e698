#include "kernels/forward_task.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <type_traits>
#include <utility>

#include "kernels/forward_rows.h"
#include "kernels/tiles/pairs.h"
#include "kernels/tiles/row_copy.h"

namespace longseq::detail {
namespace {

constexpr std::int64_t kPiecesPerPoll = 16;             // less than a millisecond of computing
constexpr int kPiecesSummed = 8;                        // of a tile, before they are put aside
constexpr std::int64_t kRecentKeys = 3 * kForwardKeys;  // that are still in cache when the next task begins

/// Part number `part` of `parts` of the rows.
Interval share_of(Interval rows, std::int64_t part, std::int64_t parts) {
  return {rows.begin + rows.size() * part / parts, rows.begin + rows.size() * (part + 1) / parts};
}

std::int64_t tiles_of(const ForwardTask& task) {
  return (task.queries.rows.size() + kForwardLanes - 1) / kForwardLanes;
}

/// One task on its way.
template <class T>
class TaskRun {
 public:
  using A = Accumulator<T>;
  TaskRun(const Pattern& pattern, const PositionTerms<A>& terms, const QueryBlock<T>& block,
          const ForwardTask& task, const ForwardTask& after, ForwardScratch<T>& scratch, const Poll& poll)
      : pattern_(pattern),
        terms_(terms),
        block_(block),
        task_(task),
        after_(after),
        scratch_(scratch),
        poll_(poll) {
    scratch_.coming.clear();
  }

  void take(const KeyBlock<T>& keys) {
    look_at(keys.positions);
    find_recent(keys);
    for (Interval piece = piece_from(0), next; !piece.empty(); piece = next) {
      next = piece_from(piece.end);
      ending_ = next.empty() || piece_from(next.end).empty();
      if (poll_ && scratch_.turn++ % kPiecesPerPoll == 0) poll_();
      take_piece(keys, piece, next);
    }
  }

  void finish() {
    for (std::int64_t i = 0; i < tiles_; ++i) {
      if (i >= loaded_) load(i);  // a tile that sees nothing
      take_back(tile(i));
      if (block_.result.wanted()) {
        store_result(tile(i), block_.result, task_.batch, rows(i));
      } else {
        store_state(tile(i), block_.state, task_.batch, rows(i));
      }
      clear_outputs(tile(i));
    }
  }

 private:
  ForwardTile<A>& tile(std::int64_t i) { return scratch_.tiles[static_cast<std::size_t>(i)]; }
  Outlook& outlook(std::int64_t i) { return scratch_.outlooks[static_cast<std::size_t>(i)]; }
  FoldedRows rows(std::int64_t i) const { return rows(task_.queries, i); }
  static FoldedRows rows(const FoldedRows& queries, std::int64_t i) {
    const std::int64_t begin = queries.rows.begin + i * kForwardLanes;
    return {queries.first_head, queries.fold, {begin, std::min(begin + kForwardLanes, queries.rows.end)}};
  }

  /// Tiles are loaded one by one, before their first piece, so that the rows of the next are on their way
  /// meanwhile.
  void load(std::int64_t i) {
    for (; loaded_ <= i; ++loaded_) {
      const FoldedRows queries = rows(loaded_);
      ForwardTile<A>& own = tile(loaded_);
      load_queries(own, queries);
      if (terms_.relative.present()) {
        add_query_biases(terms_.relative, queries, own,
                         scratch_.relative[static_cast<std::size_t>(loaded_)].queries());
      }
      if (block_.state.present()) {
        load_state(block_.state, task_.batch, queries, own);
      } else {
        begin_from_nothing(own);
      }
    }
  }

  void load_queries(ForwardTile<A>& own, const FoldedRows& queries) {
    const auto from = rows_of<kForwardLanes>(block_.q, task_.batch, queries);
    if (products_ != PairProducts::none) {
      std::array<const Pair*, kForwardLanes> pairs;
      std::transform(from.begin(), from.begin() + queries.rows.size(), pairs.begin(),
                     [](const T* row) { return reinterpret_cast<const Pair*>(row); });
      rows_to_lanes<Pair>(pairs.data(), queries.rows.size(), own.head_dim / 2,
                          reinterpret_cast<Pair*>(own.queries), kForwardLanes);
    } else {
      rows_to_lanes<T>(from.data(), queries.rows.size(), own.head_dim, own.queries, kForwardLanes);
    }
  }

  /// Fills the outlooks and what the task sees of the key block.
  void look_at(Run keys) {
    seen_[0] = seen_[1] = {};
    for (std::int64_t i = 0; i < tiles_; ++i) {
      look(pattern_, block_.positions, rows(i), keys, kForwardLanes, tile(i).lanes, outlook(i));
      for (int n = 0; n < 2; ++n) seen_[n] = hull_of(seen_[n], outlook(i).hull[n]);
      if (terms_.bias.values != nullptr) find_tables(rows(i), terms_.bias, tile(i).lanes);
      if (terms_.relative.present())
        scratch_.relative[static_cast<std::size_t>(i)].begin_block(block_.positions, rows(i), keys);
    }
  }

  /// The next piece that the task sees any of, from `row` on. Pieces begin at multiples of kForwardKeys,
  /// wherever what is seen begins: the order of sums must not depend on which tiles share a task, and so on
  /// the number of threads. They may begin at an even key, too: only the last key of all can be without a
  /// partner for pairs.
  Interval piece_from(std::int64_t row) const {
    const auto next_of = [row](Interval seen) { return Interval{std::max(row, seen.begin), seen.end}; };
    const Interval first = next_of(seen_[0]), second = next_of(seen_[1]);
    if (first.empty() && second.empty()) return {};
    const std::int64_t begin = first.empty()    ? second.begin
                               : second.empty() ? first.begin
                                                : std::min(first.begin, second.begin);
    return {begin / 2 * 2, std::min((begin / kForwardKeys + 1) * kForwardKeys, hull_of(first, second).end)};
  }

  /// `next`: the piece that follows.
  void take_piece(const KeyBlock<T>& keys, Interval piece, Interval next) {
    scratch_.coming.forget_keys();
    const TileBias<A> bias{terms_.bias.values, static_cast<Index<A>>(terms_.bias.reach),
                           static_cast<Index<A>>(keys.positions.stride)};
    if constexpr (std::is_same_v<T, BFloat16>) {
      if (products_ != PairProducts::none) {
        const bool matrix = products_ == PairProducts::matrix;
        const KeyRows<Pair> key_rows =
            (matrix ? transpose_values : pair)(keys, task_.batch, task_.kv_head, piece, scratch_);
        for_each_tile(piece, matrix ? kMatrixKeys : kForwardKeys, 2, [&](std::int64_t i, const Piece& own) {
          ask_for(keys, next, i, own.keys);
          (matrix ? attend_tile_by_matrix : attend_tile_by_pairs)(tile(i), key_rows, own, bias,
                                                                  scratch_.scores, scratch_.weights);
        });
        return;
      }
    }
    const bool relative = terms_.relative.present();
    const KeyRows<A> key_rows = widen(keys, task_.batch, task_.kv_head, piece, scratch_);
    if (tiles_at_once_ == 2) return take_two_by_two(keys, key_rows, piece, next, bias);
    for_each_tile(piece, kForwardKeys, 1, [&](std::int64_t i, const Piece& own) {
      ask_for(keys, next, i, own.keys);
      if (relative)
        scratch_.relative[static_cast<std::size_t>(i)].fill(terms_.relative, own.keys, scratch_.scores);
      attend_tile(tile(i), key_rows, own, bias, relative, scratch_.scores);
    });
  }

  /// The same for neighbouring tiles at once.
  void take_two_by_two(const KeyBlock<T>& keys, const KeyRows<A>& key_rows, Interval piece, Interval next,
                       const TileBias<A>& bias) {
    A* const scores[] = {scratch_.scores, scratch_.scores_beside};
    Piece* const own = scratch_.pieces;
    for (std::int64_t first = 0; first < tiles_; first += 2) {
      std::int64_t seeing[2], count = 0;
      for (std::int64_t i = first; i < std::min(first + 2, tiles_); ++i) {
        if (cut(outlook(i), piece, 1, own[count])) seeing[count++] = i;
      }
      if (count > 0) load(seeing[count - 1]);
      for (std::int64_t n = 0; n < count; ++n) ask_for(keys, next, seeing[n], own[n].keys);
      const auto turn = [&](int n) { return TileTurn<A>{tile(seeing[n]), own[n], scores[n]}; };
      if (count == 2) {
        attend_two_tiles(turn(0), turn(1), key_rows, bias);
      } else if (count == 1) {
        attend_tile(tile(seeing[0]), key_rows, own[0], bias, false, scores[0]);
      }
      for (std::int64_t n = 0; n < count; ++n) limit_sums(tile(seeing[n]));
    }
  }

  /// Asks for what is wanted soon, to come while tile i attends to `keys`: its own place in the result, the
  /// queries of the tiles after it, in this task or the one after, and the tile's share of the next piece.
  void ask_for(const KeyBlock<T>& block, Interval next, std::int64_t i, Interval keys) {
    Coming& coming = scratch_.coming;
    coming.tidy();
    const Interval(&hull)[2] = outlook(i).hull;
    if (block_.result.wanted() && keys.end >= hull_of(hull[0], hull[1]).end)
      coming.add(block_.result.o, task_.batch, rows(i));
    if (loaded_ == i + 1 && asked_ < loaded_) {
      ask_for_queries(task_, loaded_);
      asked_ = loaded_;
    }
    if (ending_ && i + 1 == tiles_ && !asked_after_ && after_.block == task_.block) {
      ask_for_queries(after_, 0);
      asked_after_ = true;
    }
    if constexpr (std::is_same_v<T, A>) {  // keys and values are read where they lie
      Interval fresh = hull_of(intersect(next, seen_[0]), intersect(next, seen_[1]));
      for (const Interval& recent : recent_) {
        if (recent.contains(fresh.begin)) fresh.begin = recent.end;
      }
      const Interval share = share_of(fresh, i, tiles_);
      coming.add(block.k, task_.batch, task_.kv_head, share);
      coming.add(block.v, task_.batch, task_.kv_head, share);
    }
  }

  /// The queries of a task's tiles that are taken at once, the first of them `first`.
  void ask_for_queries(const ForwardTask& task, std::int64_t first) {
    for (std::int64_t t = first; t < std::min(first + tiles_at_once_, tiles_of(task)); ++t)
      scratch_.coming.add(block_.q, task.batch, rows(task.queries, t));
  }

  /// Keys that the thread's last task has left in the cache need not be asked for.
  void find_recent(const KeyBlock<T>& keys) {
    const void* const first = keys.k.row(task_.batch, task_.kv_head, 0);
    recent_[0] = recent_[1] = {};
    if (scratch_.last_keys == first &&
        scratch_.last_seen[0].size() + scratch_.last_seen[1].size() <= kRecentKeys)
      std::copy_n(scratch_.last_seen, 2, recent_);
    scratch_.last_keys = first;
    std::copy_n(seen_, 2, scratch_.last_seen);
  }

  /// Calls attend(i, what tile i sees of the keys) for the tiles that see anything of the piece, `at_once`
  /// keys at a time.
  template <class Attend>
  void for_each_tile(Interval piece, std::int64_t at_once, std::int64_t granule, const Attend& attend) {
    for (std::int64_t i = 0; i < tiles_; ++i) {
      bool any = false;
      // At multiples of at_once of the block, as pieces themselves: which tiles share the task must not
      // matter.
      for (std::int64_t begin = piece.begin / at_once * at_once; begin < piece.end; begin += at_once) {
        const Interval keys{std::max(begin, piece.begin), std::min(begin + at_once, piece.end)};
        Piece& own = scratch_.pieces[0];
        if (!cut(outlook(i), keys, granule, own)) continue;
        load(i);
        attend(i, own);
        any = true;
      }
      if (any) limit_sums(tile(i));
    }
  }

  /// Long sums in f32 round more than several short ones. Only what the tile itself has seen decides, not
  /// who shares its task.
  static void limit_sums(ForwardTile<A>& tile) {
    if (++tile.pieces == kPiecesSummed) put_aside(tile);
  }

  /// Tiles that are taken at once: two only where their scores are plain products.
  std::int64_t tiles_at_once() const {
    const bool plain = std::is_same_v<T, A> && !terms_.relative.present() && terms_.bias.values == nullptr;
    return plain && makes_wide_products() ? 2 : 1;
  }

  PairProducts products() const {
    const bool in_pairs =
        lies_in_pairs(block_.q) && std::all_of(block_.keys.begin(), block_.keys.end(),
                                               [](const KeyBlock<T>& keys) { return lies_in_pairs(keys.k); });
    return in_pairs ? pair_products_of<T>(block_.q.shape.head_dim, terms_.relative.present())
                    : PairProducts::none;
  }

  const Pattern& pattern_;
  const PositionTerms<A>& terms_;
  const QueryBlock<T>& block_;
  const ForwardTask& task_;
  const ForwardTask& after_;
  ForwardScratch<T>& scratch_;
  const Poll& poll_;
  const std::int64_t tiles_ = tiles_of(task_);
  const std::int64_t tiles_at_once_ = tiles_at_once();
  const PairProducts products_ = products();
  const MatrixUnit matrix_unit_{products_ == PairProducts::matrix};
  std::int64_t loaded_ = 0;   // tiles whose queries and state are in the scratch
  std::int64_t asked_ = 0;    // loaded_ when the queries of the next were last asked for
  bool asked_after_ = false;  // for those of the task after
  bool ending_ = false;       // at most one piece of the key block follows
  Interval seen_[2];          // of the key block, by any tile
  Interval recent_[2];        // of the key block, by the thread's last task
};

}  // namespace

template <class T>
ForwardScratch<T>::ForwardScratch(std::int64_t head_dim, bool with_relative, std::int64_t task_tiles)
    : memory({1, 1, elements(head_dim, with_relative, task_tiles), 1}),
      tiles(static_cast<std::size_t>(task_tiles)),
      outlooks(tiles.size()) {
  A* next = memory.data();
  const auto take = [&next](std::int64_t count) { return std::exchange(next, next + count); };
  A* const relative_rows = with_relative ? take(RelativeScores<A>::row_elements(head_dim)) : nullptr;
  for (ForwardTile<A>& tile : tiles) {
    tile.queries = take(head_dim * kForwardLanes);
    tile.maximum = take(kForwardLanes);
    tile.outputs = take((head_dim + 1) * kForwardLanes);
    tile.sum = tile.outputs + head_dim * kForwardLanes;
    tile.earlier = take((head_dim + 1) * kForwardLanes);
    tile.head_dim = head_dim;
    clear_outputs(tile);
    tile.score_scale = static_cast<A>(kLog2E / std::sqrt(static_cast<double>(head_dim)));
    if (with_relative)
      relative.emplace_back(head_dim, take(RelativeScores<A>::elements(head_dim)), relative_rows);
  }
  constexpr bool kWidens = !std::is_same_v<T, A>;
  scores = take(kForwardKeys * kForwardLanes);
  scores_beside = kWidens ? nullptr : take(kForwardKeys * kForwardLanes);
  weights = kWidens ? reinterpret_cast<Pair*>(take(kForwardKeys / 2 * kForwardLanes)) : nullptr;
  k = kWidens ? take(kForwardKeys * head_dim) : nullptr;
  v = kWidens ? take(kForwardKeys * head_dim) : nullptr;
}

template <class T>
std::int64_t ForwardScratch<T>::elements(std::int64_t head_dim, bool with_relative, std::int64_t task_tiles) {
  const std::int64_t of_tile =
      (3 * head_dim + 3) * kForwardLanes + (with_relative ? RelativeScores<A>::elements(head_dim) : 0);
  constexpr bool kWidens = !std::is_same_v<T, A>;
  return task_tiles * of_tile + (kWidens ? 1 : 2) * kForwardKeys * kForwardLanes +
         (with_relative ? RelativeScores<A>::row_elements(head_dim) : 0) +
         (kWidens ? 2 * kForwardKeys * head_dim + kForwardKeys / 2 * kForwardLanes : 0);
}

template <class T>
void run_task(const Pattern& pattern, const PositionTerms<Accumulator<T>>& terms, const QueryBlock<T>& block,
              const ForwardTask& task, const ForwardTask& after, ForwardScratch<T>& scratch,
              const Poll& poll) {
  TaskRun<T> run(pattern, terms, block, task, after, scratch, poll);
  for (const KeyBlock<T>& keys : block.keys) run.take(keys);
  run.finish();
}

#define LONGSEQ_INSTANTIATE(T)                                                                          \
  template struct ForwardScratch<T>;                                                                    \
  template void run_task<T>(const Pattern&, const PositionTerms<Accumulator<T>>&, const QueryBlock<T>&, \
                            const ForwardTask&, const ForwardTask&, ForwardScratch<T>&, const Poll&);
LONGSEQ_INSTANTIATE(float)
LONGSEQ_INSTANTIATE(double)
LONGSEQ_INSTANTIATE(BFloat16)
#undef LONGSEQ_INSTANTIATE

}  // namespace longseq::detail
