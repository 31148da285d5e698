#include "drivers/execution/waves.h"

#include <algorithm>
#include <iterator>

namespace longseq {
namespace {

/// The number of a place in the list, the list's size if it is new, or −1 if it meets another place of it.
std::ptrdiff_t find(const std::vector<Place>& places, const Place& place) {
  const auto met = std::find_if(places.begin(), places.end(), [&](const Place& other) {
    return other.buffer == place.buffer && !intersect(other.rows, place.rows).empty();
  });
  return met == places.end() || *met == place ? met - places.begin() : -1;
}

bool meets_any(const std::vector<Place>& places, const Place& place) {
  return find(places, place) != std::ssize(places);
}

/// The first wave for which `fits` holds, but none before the last that the tile must not overtake, for which
/// `goes_first` holds; a new one at the end if there is none.
template <class Wave, class Fits, class GoesFirst>
Wave& wave_for(std::vector<Wave>& waves, const Tile& tile, const Fits& fits, const GoesFirst& goes_first) {
  Wave* found = nullptr;
  for (auto wave = waves.rbegin(); wave != waves.rend(); ++wave) {
    if (wave->heads == tile.heads && fits(*wave)) found = &*wave;
    if (goes_first(*wave)) break;
  }
  if (found != nullptr) return *found;
  waves.emplace_back();
  waves.back().heads = tile.heads;
  return waves.back();
}

template <class T>
KeyBlock<T> key_block(const Problem& problem, const PlanMemory<T>& memory, const Tile& tile) {
  const auto both = memory.template view<T>(tile.keys, problem.kv_heads_of(tile.heads)).tokens(tile.key_rows);
  return {first_half(both), second_half(both), tile.key_positions};
}

template <class T>
QueryBlock<T> part_of(const QueryBlock<T>& block, Interval rows) {
  return {block.q.tokens(rows), block.positions.slice(rows), block.state.tokens(rows), block.keys};
}

}  // namespace

template <class T>
std::vector<ForwardWave<T>> forward_waves(const Problem& problem, const PlanMemory<T>& memory,
                                          std::span<const Tile> tiles, const StateOf<T>& state_of) {
  std::vector<ForwardWave<T>> waves;
  for (const Tile& tile : tiles) {
    const Place place{tile.into, tile.query_rows};
    ForwardWave<T>& wave = wave_for(
        waves, tile, [&](const auto& other) { return find(other.places, place) >= 0; },
        [](const auto& /*other*/) { return false; });
    const auto number = static_cast<std::size_t>(find(wave.places, place));
    if (number == wave.places.size()) {
      wave.places.push_back(place);
      wave.blocks.push_back({memory.template view<T>(tile.queries, tile.heads).tokens(tile.query_rows),
                             tile.query_positions,
                             state_of(tile).tokens(tile.query_rows),
                             {}});
    }
    wave.blocks[number].keys.push_back(key_block(problem, memory, tile));
  }
  return waves;
}

template <class T>
std::vector<std::pair<int, Area>> give_results(ForwardWave<T>& wave, std::map<int, Areas>& later,
                                               const ResultOf<T>& result_of) {
  ForwardWave<T> cut{wave.heads, {}, {}};
  std::vector<std::pair<int, Area>> given;
  const auto add = [&](std::size_t number, Interval rows, const AttentionResult<T>& result) {
    const Place& place = wave.places[number];
    if (rows.empty()) return;
    cut.places.push_back({place.buffer, rows});
    cut.blocks.push_back(part_of(wave.blocks[number], rows.shifted(-place.rows.begin)));
    if (!result.wanted()) return;
    cut.blocks.back().result = {result.o.tokens(rows), result.lse.tokens(rows)};
    given.push_back({place.buffer, {rows, wave.heads}});
  };
  for (std::size_t number = 0; number < wave.blocks.size(); ++number) {
    const auto [buffer, rows] = wave.places[number];
    const AttentionResult<T> result = result_of(buffer, wave.heads);
    std::int64_t begin = rows.begin;
    const Areas lasting = beyond({rows, wave.heads}, later[buffer]);
    for (const Area& last : lasting) {
      if (!result.wanted() || last.heads != wave.heads) continue;
      add(number, {begin, last.rows.begin}, {});
      add(number, last.rows, result);
      begin = last.rows.end;
    }
    add(number, {begin, rows.end}, {});
    later[buffer].insert(later[buffer].end(), lasting.begin(), lasting.end());
  }
  wave = std::move(cut);
  return given;
}

template <class T>
std::vector<BackwardWave<T>> backward_waves(const Problem& problem, const PlanMemory<T>& memory,
                                            std::span<const Tile> tiles,
                                            std::span<const GradientStarts::OfTile> starts) {
  using A = Accumulator<T>;
  std::vector<BackwardWave<T>> waves;
  for (std::size_t number = 0; number < tiles.size(); ++number) {
    const Tile& tile = tiles[number];
    const Place query_place{tile.into, tile.query_rows}, key_place{tile.key_gradients, tile.key_rows};
    const Interval kv_heads = problem.kv_heads_of(tile.heads);
    BackwardWave<T>& wave = wave_for(
        waves, tile,
        [&](const auto& other) {
          return find(other.query_places, query_place) >= 0 && find(other.key_places, key_place) >= 0;
        },
        [&](const auto& other) {  // it gives the same gradients: the first tile may write them
          const auto share = [](Interval a, Interval b) { return !intersect(a, b).empty(); };
          return (share(other.heads, tile.heads) && meets_any(other.query_places, query_place)) ||
                 (share(problem.kv_heads_of(other.heads), kv_heads) &&
                  meets_any(other.key_places, key_place));
        });
    const auto query = static_cast<std::size_t>(find(wave.query_places, query_place));
    const auto key = static_cast<std::size_t>(find(wave.key_places, key_place));
    const auto rows_of = [&](auto view) { return view.tokens(tile.query_rows); };
    if (query == wave.query_places.size()) {
      wave.query_places.push_back(query_place);
      wave.queries.push_back({.q = rows_of(memory.template view<T>(tile.queries, tile.heads)),
                              .d_o = rows_of(memory.template view<T>(tile.output_gradients, tile.heads)),
                              .lse = rows_of(memory.column(tile.statistics, tile.heads, 0)),
                              .delta = rows_of(memory.column(tile.statistics, tile.heads, 1)),
                              .positions = tile.query_positions,
                              .dq = rows_of(memory.template view<A>(tile.into, tile.heads)),
                              .first = starts[number].queries});
    }
    if (key == wave.key_places.size()) {
      wave.key_places.push_back(key_place);
      const KeyBlock<T> block = key_block(problem, memory, tile);
      const auto gradients = memory.template view<A>(tile.key_gradients, kv_heads).tokens(tile.key_rows);
      wave.keys.push_back({block.k,
                           block.v,
                           block.positions,
                           first_half(gradients),
                           second_half(gradients),
                           {},
                           starts[number].keys.shifted(-tile.key_rows.begin)});
    }
    wave.keys[key].queries.push_back(query);
  }
  for (BackwardWave<T>& wave : waves) {
    for (GradientKeys<T>& keys : wave.keys) std::sort(keys.queries.begin(), keys.queries.end());
  }
  return waves;
}

#define LONGSEQ_INSTANTIATE(T)                                                                       \
  template std::vector<ForwardWave<T>> forward_waves<T>(const Problem&, const PlanMemory<T>&,        \
                                                        std::span<const Tile>, const StateOf<T>&);   \
  template std::vector<std::pair<int, Area>> give_results<T>(ForwardWave<T>&, std::map<int, Areas>&, \
                                                             const ResultOf<T>&);                    \
  template std::vector<BackwardWave<T>> backward_waves<T>(                                           \
      const Problem&, const PlanMemory<T>&, std::span<const Tile>, std::span<const GradientStarts::OfTile>);
LONGSEQ_INSTANTIATE(float)
LONGSEQ_INSTANTIATE(double)
LONGSEQ_INSTANTIATE(BFloat16)
#undef LONGSEQ_INSTANTIATE

}  // namespace longseq
