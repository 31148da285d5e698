// The tiles of a step, sorted into waves: calls of the kernels within which no two blocks write the same
// rows.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "drivers/execution/memory.h"
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
                                          const Tiles& tiles, const StateOf<T>& state_of);

/// `starts`: of these tiles.
template <class T>
std::vector<BackwardWave<T>> backward_waves(const Problem& problem, const PlanMemory<T>& memory,
                                            const Tiles& tiles,
                                            std::span<const GradientStarts::OfTile> starts);

}  // namespace longseq
