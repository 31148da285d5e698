#include "kernels/forward_task.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>

#include "kernels/tiles/pairs.h"
#include "kernels/tiles/row_copy.h"

namespace longseq::detail {
namespace {

constexpr std::int64_t kPiecesPerPoll = 16;  // less than a millisecond of computing
constexpr double kLn2 = 0.69314718055994530942;

template <class T, class View>
std::array<T*, kForwardLanes> rows_of(const View& view, const ForwardTask& task, const FoldedRows& queries) {
  std::array<T*, kForwardLanes> rows{};
  for (std::int64_t t = 0; t < queries.rows.size(); ++t)
    rows[static_cast<std::size_t>(t)] = view.row(task.batch, queries.head(t), queries.token(t));
  return rows;
}

template <class A>
void begin_from_nothing(ForwardTile<A>& tile) {
  std::fill_n(tile.maximum, kForwardLanes, -std::numeric_limits<A>::infinity());
  std::fill_n(tile.sum, kForwardLanes, A{0});
  std::fill_n(tile.outputs, tile.head_dim * kForwardLanes, A{0});
}

template <class A>
void load_state(const AttentionState<A>& state, const ForwardTask& task, const FoldedRows& queries,
                ForwardTile<A>& tile) {
  begin_from_nothing(tile);
  bool any = false;
  for (std::int64_t t = 0; t < queries.rows.size(); ++t) {
    tile.maximum[t] = *state.maximum.row(task.batch, queries.head(t), queries.token(t));
    tile.sum[t] = *state.sum.row(task.batch, queries.head(t), queries.token(t));
    any = any || tile.sum[t] != A{0};
  }
  if (!any) return;
  const auto rows = rows_of<const A>(state.o, task, queries);
  rows_to_lanes<A>(rows.data(), queries.rows.size(), tile.head_dim, tile.outputs, kForwardLanes);
  for (std::int64_t t = 0; t < queries.rows.size(); ++t) {
    if (tile.sum[t] != A{0})
      continue;  // else the row has seen no key yet, and its outputs may be uninitialised
    for (std::int64_t d = 0; d < tile.head_dim; ++d) tile.outputs[d * kForwardLanes + t] = A{0};
  }
}

template <class A>
void store_state(const ForwardTile<A>& tile, const AttentionState<A>& state, const ForwardTask& task,
                 const FoldedRows& queries) {
  for (std::int64_t t = 0; t < queries.rows.size(); ++t) {
    *state.maximum.row(task.batch, queries.head(t), queries.token(t)) = tile.maximum[t];
    *state.sum.row(task.batch, queries.head(t), queries.token(t)) = tile.sum[t];
  }
  const auto rows = rows_of<A>(state.o, task, queries);
  lanes_to_rows<A>(tile.outputs, kForwardLanes, queries.rows.size(), tile.head_dim, rows.data());
}

template <class T, class A>
void store_result(ForwardTile<A>& tile, const ForwardResult<T>& result, const ForwardTask& task,
                  const FoldedRows& queries) {
  std::array<A, kForwardLanes> factor{};
  for (std::int64_t t = 0; t < queries.rows.size(); ++t) {
    const bool seen = tile.sum[t] != A{0};
    factor[static_cast<std::size_t>(t)] = seen ? A{1} / tile.sum[t] : A{0};
    *result.lse.row(task.batch, queries.head(t), queries.token(t)) =
        seen ? static_cast<A>(kLn2 * (static_cast<double>(tile.maximum[t]) +
                                      std::log2(static_cast<double>(tile.sum[t]))))
             : -std::numeric_limits<A>::infinity();
  }
  for (std::int64_t d = 0; d < tile.head_dim; ++d) {
    for (std::size_t t = 0; t < kForwardLanes; ++t)
      tile.outputs[d * kForwardLanes + static_cast<std::int64_t>(t)] *= factor[t];
  }
  const auto rows = rows_of<T>(result.o, task, queries);
  lanes_to_rows<T>(tile.outputs, kForwardLanes, queries.rows.size(), tile.head_dim, rows.data());
}

/// The piece's keys in the type that is computed in: where they lie, or widened into the scratch.
template <class T>
KeyRows<Accumulator<T>> widen(const KeyBlock<T>& keys, std::int64_t b, std::int64_t kv_head, Interval piece,
                              ForwardScratch<T>& scratch) {
  if constexpr (std::is_same_v<T, Accumulator<T>>) {
    return {keys.k.row(b, kv_head, 0), keys.v.row(b, kv_head, 0), keys.k.token_stride, keys.v.token_stride,
            0};
  } else {
    const std::int64_t head_dim = keys.k.shape.head_dim;
    pack_rows(keys.k.row(b, kv_head, piece.begin), keys.k.token_stride, piece.size(), head_dim, scratch.k,
              head_dim);
    pack_rows(keys.v.row(b, kv_head, piece.begin), keys.v.token_stride, piece.size(), head_dim, scratch.v,
              head_dim);
    return {scratch.k, scratch.v, head_dim, head_dim, piece.begin};
  }
}

/// The piece's keys and values as pairs: of dimensions, and of keys. A piece of an odd number gets a key of
/// zeros.
KeyRows<Pair> pair(const KeyBlock<BFloat16>& keys, std::int64_t b, std::int64_t kv_head, Interval piece,
                   ForwardScratch<BFloat16>& scratch) {
  const std::int64_t head_dim = keys.k.shape.head_dim;
  Pair* k = reinterpret_cast<Pair*>(scratch.k);
  Pair* v = reinterpret_cast<Pair*>(scratch.v);
  pack_rows(reinterpret_cast<const Pair*>(keys.k.row(b, kv_head, piece.begin)), keys.k.token_stride / 2,
            piece.size(), head_dim / 2, k, head_dim / 2);
  std::fill_n(k + piece.size() * head_dim / 2, piece.size() % 2 * head_dim / 2, Pair{});
  pair_rows(keys.v.row(b, kv_head, piece.begin), keys.v.token_stride, piece.size(), head_dim, v, head_dim);
  return {k, v, head_dim / 2, head_dim, piece.begin};
}

/// The same for the matrix unit: the values transposed, and zeros beyond the piece.
KeyRows<Pair> transpose_values(const KeyBlock<BFloat16>& keys, std::int64_t b, std::int64_t kv_head,
                               Interval piece, ForwardScratch<BFloat16>& scratch) {
  const std::int64_t head_dim = keys.k.shape.head_dim, half = head_dim / 2;
  constexpr std::int64_t kPairs = kForwardKeys / 2, kRow = kPairs + kMatrixSide;
  Pair* const k = reinterpret_cast<Pair*>(scratch.k);  // with v one after the other, and room enough
  Pair* const pairs = k + kRow * head_dim;
  Pair* const v = pairs + kPairs * head_dim;
  transpose_pairs(keys.v.row(b, kv_head, piece.begin), keys.v.token_stride, piece.size(), head_dim, pairs, v,
                  kRow);
  const Pair* const rows = reinterpret_cast<const Pair*>(keys.k.row(b, kv_head, piece.begin));
  if (piece.end + kMatrixDepth <= keys.k.shape.tokens)  // what lies beyond may be read, too
    return {rows, v, keys.k.token_stride / 2, kRow, piece.begin};
  pack_rows(rows, keys.k.token_stride / 2, piece.size(), half, k, half);
  std::fill_n(k + piece.size() * half, kMatrixDepth * half, Pair{});
  return {k, v, half, kRow, piece.begin};
}

/// Part number `part` of `parts` of the rows.
Interval share_of(Interval rows, std::int64_t part, std::int64_t parts) {
  return {rows.begin + rows.size() * part / parts, rows.begin + rows.size() * (part + 1) / parts};
}

/// Asks for the rows of a tile: they come from memory, and should be there before their turn.
template <class T>
void fetch(const TensorView<T>& view, const ForwardTask& task, const FoldedRows& queries) {
  constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(T));
  constexpr int kForWriting = std::is_const_v<T> ? 0 : 1;
  for (std::int64_t t = 0; t < queries.rows.size(); ++t) {
    const T* row = view.row(task.batch, queries.head(t), queries.token(t));
    for (std::int64_t d = 0; d < view.shape.head_dim; d += kLine) __builtin_prefetch(row + d, kForWriting, 2);
  }
}

/// One task on its way.
template <class T>
class TaskRun {
 public:
  using A = Accumulator<T>;
  TaskRun(const Pattern& pattern, const PositionTerms<A>& terms, const QueryBlock<T>& block,
          const ForwardTask& task, const ForwardResult<T>* result, ForwardScratch<T>& scratch,
          const Poll& poll)
      : pattern_(pattern),
        terms_(terms),
        block_(block),
        task_(task),
        result_(result),
        scratch_(scratch),
        poll_(poll) {}

  void take(const KeyBlock<T>& keys) {
    const Interval hull = look_at(keys.positions);
    // Pieces begin at multiples of kForwardKeys, wherever the hull begins: the order of sums must not depend
    // on which tiles share a task, and so on the number of threads.
    for (std::int64_t begin = hull.begin / kForwardKeys * kForwardKeys; begin < hull.end;
         begin += kForwardKeys) {
      // From an even key on: only the last of all can be without a partner for pairs.
      const Interval piece{std::max(begin, hull.begin / 2 * 2), std::min(begin + kForwardKeys, hull.end)};
      if (poll_ && begin / kForwardKeys % kPiecesPerPoll == 0) poll_();
      take_piece(keys, piece, {piece.end, std::min(piece.end + kForwardKeys, hull.end)});
    }
  }

  void finish() {
    for (std::int64_t i = 0; i < tiles_; ++i) {
      if (i >= loaded_) load(i);  // a tile that sees nothing
      if (result_ != nullptr) {
        store_result(tile(i), *result_, task_, rows(i));
      } else {
        store_state(tile(i), block_.state, task_, rows(i));
      }
    }
  }

 private:
  ForwardTile<A>& tile(std::int64_t i) { return scratch_.tiles[static_cast<std::size_t>(i)]; }
  FoldedRows rows(std::int64_t i) const {
    const std::int64_t begin = task_.queries.rows.begin + i * kForwardLanes;
    return {task_.queries.first_head,
            task_.queries.fold,
            {begin, std::min(begin + kForwardLanes, task_.queries.rows.end)}};
  }

  /// Tiles are loaded one by one, before their first piece, so that the rows of the next are on their way
  /// meanwhile.
  void load(std::int64_t i) {
    for (; loaded_ <= i; ++loaded_) {
      const FoldedRows queries = rows(loaded_);
      ForwardTile<A>& own = tile(loaded_);
      load_queries(own, queries);
      if (terms_.relative.present()) {
        rows_to_lanes<T>(rows_of<const T>(block_.position_q, task_, queries).data(), queries.rows.size(),
                         own.head_dim, scratch_.relative[static_cast<std::size_t>(loaded_)].queries(),
                         kForwardLanes);
      }
      if (loaded_ + 1 < tiles_) fetch(block_.q, task_, rows(loaded_ + 1));
      if (result_ != nullptr) {
        begin_from_nothing(own);
        fetch(result_->o, task_, queries);
      } else {
        load_state(block_.state, task_, queries, own);
      }
    }
  }

  void load_queries(ForwardTile<A>& own, const FoldedRows& queries) {
    const auto from = rows_of<const T>(block_.q, task_, queries);
    if (products_ != PairProducts::none) {
      std::array<const Pair*, kForwardLanes> pairs;
      std::transform(from.begin(), from.end(), pairs.begin(),
                     [](const T* row) { return reinterpret_cast<const Pair*>(row); });
      rows_to_lanes<Pair>(pairs.data(), queries.rows.size(), own.head_dim / 2,
                          reinterpret_cast<Pair*>(own.queries), kForwardLanes);
    } else {
      rows_to_lanes<T>(from.data(), queries.rows.size(), own.head_dim, own.queries, kForwardLanes);
    }
  }

  /// Fills outlooks_ and gives what the task sees of the key block.
  Interval look_at(Run keys) {
    Interval hull{std::numeric_limits<std::int64_t>::max(), 0};
    for (std::int64_t i = 0; i < tiles_; ++i) {
      Outlook& outlook = outlooks_[static_cast<std::size_t>(i)];
      outlook = look(pattern_, block_.positions, rows(i), keys, tile(i).lanes);
      if (!outlook.hull.empty())
        hull = {std::min(hull.begin, outlook.hull.begin), std::max(hull.end, outlook.hull.end)};
      if (terms_.bias.values != nullptr) find_tables(rows(i), terms_.bias, tile(i).lanes);
      if (terms_.relative.present())
        scratch_.relative[static_cast<std::size_t>(i)].begin_block(block_.positions, rows(i), keys);
    }
    return hull;
  }

  /// `coming`: the keys of the next piece, fetched meanwhile.
  void take_piece(const KeyBlock<T>& keys, Interval piece, Interval coming) {
    const TileBias<A> bias{terms_.bias.values, static_cast<Index<A>>(terms_.bias.reach),
                           static_cast<Index<A>>(keys.positions.stride)};
    if constexpr (std::is_same_v<T, BFloat16>) {
      if (products_ != PairProducts::none) {
        const bool matrix = products_ == PairProducts::matrix;
        const KeyRows<Pair> key_rows =
            (matrix ? transpose_values : pair)(keys, task_.batch, task_.kv_head, piece, scratch_);
        for_each_tile(piece, matrix ? kMatrixKeys : kForwardKeys, 2, [&](std::int64_t i, const Piece& own) {
          (matrix ? attend_tile_by_matrix : attend_tile_by_pairs)(tile(i), key_rows, own, bias,
                                                                  scratch_.scores, scratch_.weights);
        });
        return;
      }
    }
    const bool relative = terms_.relative.present();
    KeyRows<A> key_rows = widen(keys, task_.batch, task_.kv_head, piece, scratch_);
    for_each_tile(piece, kForwardKeys, 1, [&](std::int64_t i, const Piece& own) {
      if constexpr (std::is_same_v<T, A>) {  // read where they lie
        ask_for(keys, share_of(coming, i, tiles_), own.keys.size());
        key_rows.coming = &scratch_.coming;
      }
      if (relative)
        scratch_.relative[static_cast<std::size_t>(i)].fill(terms_.relative, own.keys, scratch_.scores);
      attend_tile(tile(i), key_rows, own, bias, relative, scratch_.scores);
    });
  }

  /// Asks for rows of v, to come while the scores of `keys` keys are computed. (Those of k are read in their
  /// order, so that the processor fetches them itself.)
  void ask_for(const KeyBlock<T>& block, Interval rows, std::int64_t keys) {
    scratch_.coming.clear();
    for (std::int64_t row = rows.begin; row < rows.end; ++row)
      scratch_.coming.add(block.v.row(task_.batch, task_.kv_head, row));
    constexpr std::int64_t kKeysAtOnce = 12;
    scratch_.coming.share_out(block.v.shape.head_dim * static_cast<std::int64_t>(sizeof(T)),
                              keys / kKeysAtOnce);
  }

  /// Calls attend(i, what tile i sees of the keys) for the tiles that see anything of the piece, `at_once`
  /// keys at a time.
  template <class Attend>
  void for_each_tile(Interval piece, std::int64_t at_once, std::int64_t granule, const Attend& attend) {
    for (std::int64_t i = 0; i < tiles_; ++i) {
      // At multiples of at_once of the block, as pieces themselves: which tiles share the task must not
      // matter.
      for (std::int64_t begin = piece.begin / at_once * at_once; begin < piece.end; begin += at_once) {
        const Interval keys{std::max(begin, piece.begin), std::min(begin + at_once, piece.end)};
        const Piece own = cut(outlooks_[static_cast<std::size_t>(i)], keys, granule);
        if (own.keys.empty()) continue;
        load(i);
        attend(i, own);
      }
    }
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
  const ForwardResult<T>* result_;
  ForwardScratch<T>& scratch_;
  const Poll& poll_;
  const std::int64_t tiles_ = (task_.queries.rows.size() + kForwardLanes - 1) / kForwardLanes;
  const PairProducts products_ = products();
  const MatrixUnit matrix_unit_{products_ == PairProducts::matrix};
  std::int64_t loaded_ = 0;  // tiles whose queries and state are in the scratch
  std::array<Outlook, kTilesPerTask> outlooks_;
};

}  // namespace

template <class T>
ForwardScratch<T>::ForwardScratch(std::int64_t head_dim, bool with_relative)
    : memory({1, 1, elements(head_dim, with_relative), 1}),
      tiles(static_cast<std::size_t>(tiles_per_task<T>(with_relative))) {
  A* next = memory.data();
  const auto take = [&next](std::int64_t count) { return std::exchange(next, next + count); };
  A* const relative_rows = with_relative ? take(RelativeScores<A>::row_elements(head_dim)) : nullptr;
  for (ForwardTile<A>& tile : tiles) {
    tile.queries = take(head_dim * kForwardLanes);
    tile.outputs = take(head_dim * kForwardLanes);
    tile.maximum = take(kForwardLanes);
    tile.sum = take(kForwardLanes);
    tile.head_dim = head_dim;
    tile.score_scale = static_cast<A>(kLog2E / std::sqrt(static_cast<double>(head_dim)));
    if (with_relative)
      relative.emplace_back(head_dim, take(RelativeScores<A>::elements(head_dim)), relative_rows);
  }
  constexpr bool kWidens = !std::is_same_v<T, A>;
  scores = take(kForwardKeys * kForwardLanes);
  weights = kWidens ? reinterpret_cast<Pair*>(take(kForwardKeys / 2 * kForwardLanes)) : nullptr;
  k = kWidens ? take(kForwardKeys * head_dim) : nullptr;
  v = kWidens ? take(kForwardKeys * head_dim) : nullptr;
}

template <class T>
std::int64_t ForwardScratch<T>::elements(std::int64_t head_dim, bool with_relative) {
  const std::int64_t of_tile =
      (2 * head_dim + 2) * kForwardLanes + (with_relative ? RelativeScores<A>::elements(head_dim) : 0);
  constexpr bool kWidens = !std::is_same_v<T, A>;
  return tiles_per_task<T>(with_relative) * of_tile + kForwardKeys * kForwardLanes +
         (with_relative ? RelativeScores<A>::row_elements(head_dim) : 0) +
         (kWidens ? 2 * kForwardKeys * head_dim + kForwardKeys / 2 * kForwardLanes : 0);
}

template <class T>
void run_task(const Pattern& pattern, const PositionTerms<Accumulator<T>>& terms, const QueryBlock<T>& block,
              const ForwardTask& task, const ForwardResult<T>* result, ForwardScratch<T>& scratch,
              const Poll& poll) {
  TaskRun<T> run(pattern, terms, block, task, result, scratch, poll);
  for (const KeyBlock<T>& keys : block.keys) run.take(keys);
  run.finish();
}

#define LONGSEQ_INSTANTIATE(T)                                                                          \
  template struct ForwardScratch<T>;                                                                    \
  template void run_task<T>(const Pattern&, const PositionTerms<Accumulator<T>>&, const QueryBlock<T>&, \
                            const ForwardTask&, const ForwardResult<T>*, ForwardScratch<T>&, const Poll&);
LONGSEQ_INSTANTIATE(float)
LONGSEQ_INSTANTIATE(double)
LONGSEQ_INSTANTIATE(BFloat16)
#undef LONGSEQ_INSTANTIATE

}  // namespace longseq::detail
