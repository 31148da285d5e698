// Where the buffers of a plan lie in its rank's arena.
#include <algorithm>
#include <iterator>
#include <limits>
#include <queue>
#include <utility>

#include "drivers/sharding/plan.h"

namespace longseq {
namespace {

constexpr std::int64_t kArenaAlignment = 64;

std::int64_t aligned(std::int64_t bytes) {
  return (bytes + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment;
}

struct Lifetime {
  std::size_t first = std::numeric_limits<std::size_t>::max();
  std::size_t last = 0;

  void use(std::size_t step) {
    first = std::min(first, step);
    last = std::max(last, step);
  }
};

std::vector<Lifetime> lifetimes(const RankPlan& plan) {
  std::vector<Lifetime> life(plan.buffers.size());
  for (std::size_t s = 0; s < plan.steps.size(); ++s) {
    const Step& step = plan.steps[s];
    const auto use = [&](int buffer) { life[static_cast<std::size_t>(buffer)].use(s); };
    for (const Transfer& transfer : step.sends) use(transfer.buffer);
    for (const Transfer& transfer : step.receives) use(transfer.buffer);
    for (const Tile& tile : step.tiles) {
      for (const int buffer : {tile.queries, tile.keys, tile.into, tile.lse, tile.output_gradients,
                               tile.statistics, tile.key_gradients})
        use(buffer);
    }
    for (const Merge& merge : step.merges) {
      use(merge.from);
      use(merge.into);
    }
    for (std::size_t buffer = kOwnBuffers; step.allgather_keys && buffer < plan.buffers.size(); ++buffer) {
      if (plan.buffers[buffer].offset >= 0) life[buffer].use(s);  // filled by the collective
    }
  }
  for (const Delivery& delivery : plan.deliveries)
    life[static_cast<std::size_t>(delivery.from)].use(plan.steps.size());
  return life;
}

/// Memory from which the lowest place that is large enough is taken.
class Arena {
 public:
  std::int64_t take(std::int64_t size) {
    for (auto gap = gaps_.begin(); gap != gaps_.end(); ++gap) {
      const Interval place{aligned(gap->begin), aligned(gap->begin) + size};
      if (place.end > gap->end) continue;
      const Interval before{gap->begin, place.begin};
      gap->begin = place.end;
      if (gap->empty()) gap = gaps_.erase(gap);
      if (!before.empty()) gaps_.insert(gap, before);
      return place.begin;
    }
    const std::int64_t begin = aligned(end_);
    reserve({begin, begin + size});
    return begin;
  }

  /// Takes a place beyond all that was taken.
  void reserve(Interval place) {
    if (place.begin > end_) gaps_.push_back({end_, place.begin});
    end_ = place.end;
    most_ = std::max(most_, end_);
  }

  void give_back(Interval place) {
    auto gap =
        std::lower_bound(gaps_.begin(), gaps_.end(), place.begin,
                         [](const Interval& other, std::int64_t begin) { return other.begin < begin; });
    if (gap != gaps_.end() && gap->begin == place.end) {
      gap->begin = place.begin;
    } else {
      gap = gaps_.insert(gap, place);
    }
    if (gap != gaps_.begin() && std::prev(gap)->end == gap->begin) {
      std::prev(gap)->end = gap->end;
      gap = std::prev(gaps_.erase(gap));
    }
    if (gap->end == end_) {
      end_ = gap->begin;
      gaps_.erase(gap);
    }
  }

  /// The end of all that was ever taken.
  std::int64_t size() const { return most_; }

 private:
  boost::container::small_vector<Interval, 8> gaps_;  // free, ascending, none of them touching
  std::int64_t end_ = 0;                              // of what is taken
  std::int64_t most_ = 0;
};

}  // namespace

void place_buffers(const Problem& problem, RankPlan& plan) {
  const std::vector<Lifetime> life = lifetimes(plan);
  std::vector<std::size_t> by_first_use;
  for (std::size_t i = kOwnBuffers; i < plan.buffers.size(); ++i) by_first_use.push_back(i);
  const auto earlier = [&](std::size_t a, std::size_t b) { return life[a].first < life[b].first; };
  if (!std::is_sorted(by_first_use.begin(), by_first_use.end(), earlier))  // most planners add them in order
    std::stable_sort(by_first_use.begin(), by_first_use.end(), earlier);
  Arena arena;
  using Ending = std::pair<std::size_t, Interval>;  // last step of use, place
  const auto later = [](const Ending& a, const Ending& b) { return a.first > b.first; };
  std::priority_queue<Ending, std::vector<Ending>, decltype(later)> endings(later);
  for (const std::size_t i : by_first_use) {
    for (; !endings.empty() && endings.top().first < life[i].first; endings.pop())
      arena.give_back(endings.top().second);
    Buffer& buffer = plan.buffers[i];
    const std::int64_t size = bytes_of(problem, buffer);
    if (size == 0) {
      buffer.offset = std::max<std::int64_t>(buffer.offset, 0);
      continue;
    }
    if (buffer.offset < 0) {
      buffer.offset = arena.take(size);
    } else {
      arena.reserve({buffer.offset, buffer.offset + size});
    }
    endings.emplace(life[i].last, Interval{buffer.offset, buffer.offset + size});
  }
  plan.arena_bytes = aligned(arena.size());
}

}  // namespace longseq
