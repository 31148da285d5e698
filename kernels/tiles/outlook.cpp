#include <algorithm>
#include <limits>

#include "kernels/bands.h"
#include "kernels/tiles/tile.h"

namespace longseq::detail {
namespace {

/// The tokens of a tile's rows; of the first and the last, some heads may be missing.
struct TileTokens {
  const FoldedRows& queries;
  Interval tokens = queries.tokens();
  std::int64_t missing = queries.rows.begin - tokens.begin * queries.fold;

  /// The lanes of tokens [first, last), counted from the tile's first.
  Interval lanes(std::int64_t first, std::int64_t last) const {
    return intersect({first * queries.fold - missing, last * queries.fold - missing},
                     {0, queries.rows.size()});
  }
};

/// Adds rows whose bounds rise from `first` to `last` to what a group sees.
void widen(Interval& hull, Interval& core, Interval first, Interval last) {
  hull = hull_of(hull, {first.begin, last.end});
  core = intersect(core, {last.begin, first.end});
}

}  // namespace

template <class A>
void look(const Pattern& pattern, Run block_positions, const FoldedRows& queries, Run keys,
          std::int64_t width, Lanes<A>& lanes, Outlook& outlook) {
  constexpr Interval kAll{0, std::numeric_limits<std::int64_t>::max()};
  constexpr std::int64_t kWhole = 8;  // keys, so that no few of them are left over beside a mask
  outlook = {};
  lanes.count = queries.rows.size();
  outlook.count = static_cast<int>((lanes.count + kLaneGroup - 1) / kLaneGroup);
  std::int64_t seeing[kMostGroups][2] = {};  // lanes that have the interval
  for (int i = 0; i < 2; ++i) {
    std::fill_n(lanes.visible_begin[i], width, Index<A>{0});
    std::fill_n(lanes.visible_size[i], width, Index<A>{0});
    for (Outlook::Group& group : outlook.groups) group.core[i] = kAll;
  }
  const TileTokens tile{queries};
  const Run own = block_positions.slice(tile.tokens);
  for_each_band(pattern, own, [&](Run piece, Band band) {
    const std::int64_t first = own.rows_before(piece.start);
    Index<A>* const begins = lanes.visible_begin[band.interval];
    Index<A>* const sizes = lanes.visible_size[band.interval];
    const Interval covered = tile.lanes(first, first + piece.count);
    std::int64_t position = piece.start, end_of_token = tile.lanes(first, first + 1).end;
    for (std::int64_t lane = covered.begin; lane < covered.end;
         position += piece.stride, end_of_token += queries.fold) {
      const Interval rows{keys.rows_before(band.low.of(position)), keys.rows_before(band.high.of(position))};
      for (; lane < std::min(end_of_token, covered.end); ++lane) {
        begins[lane] = static_cast<Index<A>>(rows.begin);
        sizes[lane] = static_cast<Index<A>>(rows.size());
        lanes.position[lane] = static_cast<Index<A>>(position - keys.start);
      }
    }
    for (std::int64_t g = covered.begin / kLaneGroup; g * kLaneGroup < covered.end; ++g) {
      const Interval part = intersect(covered, {g * kLaneGroup, (g + 1) * kLaneGroup});
      const auto rows_at = [&](std::int64_t lane) {
        return Interval{begins[lane], begins[lane] + sizes[lane]};
      };
      Outlook::Group& group = outlook.groups[g];
      widen(group.hull[band.interval], group.core[band.interval], rows_at(part.begin), rows_at(part.end - 1));
      seeing[g][band.interval] += part.size();
    }
  });
  std::fill_n(lanes.position + lanes.count, width - lanes.count, Index<A>{0});
  outlook.core[0] = outlook.core[1] = kAll;
  for (int g = 0; g < outlook.count; ++g) {
    const std::int64_t there = std::min(lanes.count - g * kLaneGroup, kLaneGroup);
    for (int i = 0; i < 2; ++i) {
      if (seeing[g][i] < there) outlook.groups[g].core[i] = {};
      outlook.hull[i] = hull_of(outlook.hull[i], outlook.groups[g].hull[i]);
      outlook.core[i] = intersect(outlook.core[i], outlook.groups[g].core[i]);
    }
  }
  for (Interval& core : outlook.core) {
    if (core != kAll) core = {(core.begin + kWhole - 1) / kWhole * kWhole, core.end / kWhole * kWhole};
  }
}

template void look<float>(const Pattern&, Run, const FoldedRows&, Run, std::int64_t, Lanes<float>&, Outlook&);
template void look<double>(const Pattern&, Run, const FoldedRows&, Run, std::int64_t, Lanes<double>&,
                           Outlook&);

}  // namespace longseq::detail
