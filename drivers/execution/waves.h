// The tiles of a step, sorted into waves: calls of the kernels within which no two blocks write the same
// rows.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "drivers/execution/memory.h"
#include "drivers/sharding/area.h"
#include "drivers/sharding/gradient_starts.h"
#include "kernels/attention_backward.h"

namespace longseq {

/// What a block of a wave writes: rows of a buffer.
struct Place {
  int buffer;
  Interval rows;
  friend constexpr bool operator==(const Place&, const Place&) = default;
};

/// Query blocks of the same heads, with the keys that they take in.
template <class T>
struct ForwardWave {
  Interval heads;
  std::vector<QueryBlock<T>> blocks;
  std::vector<Place> places;  // of the blocks
};

template <class T>
struct BackwardWave {
  Interval heads;
  std::vector<GradientQueries<T>> queries;
  std::vector<GradientKeys<T>> keys;
  std::vector<Place> query_places;
  std::vector<Place> key_places;
};

/// The streaming softmax of all rows of a tile's `into`, for the tile's heads.
template <class T>
using StateOf = std::function<AttentionState<Accumulator<T>>(const Tile&)>;

template <class T>
std::vector<ForwardWave<T>> forward_waves(const Problem& problem, const PlanMemory<T>& memory,
                                          std::span<const Tile> tiles, const StateOf<T>& state_of);

/// Where the finished rows of some heads of a buffer go; nowhere if nobody wants them from a wave.
template <class T>
using ResultOf = std::function<AttentionResult<T>(int buffer, Interval heads)>;

/// Lets the wave give the results of those rows that no later wave adds to, cutting its blocks where needed.
/// `later`: what later waves add to, by the buffer; this wave's rows join it. Returns the rows given, each
/// with its buffer.
template <class T>
std::vector<std::pair<int, Area>> give_results(ForwardWave<T>& wave, std::map<int, Areas>& later,
                                               const ResultOf<T>& result_of);

/// `starts`: of these tiles.
template <class T>
std::vector<BackwardWave<T>> backward_waves(const Problem& problem, const PlanMemory<T>& memory,
                                            std::span<const Tile> tiles,
                                            std::span<const GradientStarts::OfTile> starts);

}  // namespace longseq
