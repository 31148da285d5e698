// Where the buffers of a plan lie in its rank's arena.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <utility>
#include <vector>

#include "drivers/sharding/plan.h"

namespace longseq {
namespace {

constexpr std::int64_t kArenaAlignment = 64;  // a power of two

std::int64_t aligned(std::int64_t bytes) {
  return (bytes + kArenaAlignment - 1) & -kArenaAlignment;
}

/// First and last step of use.
struct Lifetime {
  std::int32_t first = std::numeric_limits<std::int32_t>::max();
  std::int32_t last = -1;

  bool empty() const { return last < first; }
  void use(std::size_t step) {
    first = std::min(first, static_cast<std::int32_t>(step));
    last = std::max(last, static_cast<std::int32_t>(step));
  }
};

std::vector<Lifetime> lifetimes(const RankPlan& plan) {
  std::vector<Lifetime> life(plan.buffers.size());
  for (std::size_t s = 0; s < plan.steps.size(); ++s) {
    const Step& step = plan.steps[s];
    const auto use = [&](int buffer) {
      if (buffer >= kOwnBuffers) life[static_cast<std::size_t>(buffer)].use(s);
    };
    for (const Transfer& transfer : plan.sends_of(step)) use(transfer.buffer);
    for (const Transfer& transfer : plan.receives_of(step)) use(transfer.buffer);
    for (const Tile& tile : plan.tiles_of(step)) {
      for (const int buffer : {tile.queries, tile.keys, tile.into, tile.lse, tile.output_gradients,
                               tile.statistics, tile.key_gradients})
        use(buffer);
    }
    for (const Merge& merge : plan.merges_of(step)) {
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

/// Buffers by a step, in their own order if they are added from the last to the first.
class BuffersOfSteps {
 public:
  BuffersOfSteps(std::size_t steps, std::size_t buffers) : first_(steps, kNone), next_(buffers, kNone) {}

  void add(std::int32_t step, std::size_t buffer) {
    next_[buffer] = std::exchange(first_[static_cast<std::size_t>(step)], static_cast<std::int32_t>(buffer));
  }
  template <class Visit>
  void for_each(std::size_t step, const Visit& visit) const {
    for (std::int32_t buffer = first_[step]; buffer != kNone;
         buffer = next_[static_cast<std::size_t>(buffer)])
      visit(static_cast<std::size_t>(buffer));
  }

 private:
  static constexpr std::int32_t kNone = -1;
  std::vector<std::int32_t> first_;  // [step]
  std::vector<std::int32_t> next_;   // [buffer]: of the same step
};

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
    if (place.end == end_) {
      end_ = place.begin;
      if (gaps_.empty() || gaps_.back().end != end_) return;
      end_ = gaps_.back().begin;
      gaps_.pop_back();
      return;
    }
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
  const std::size_t steps = plan.steps.size() + 1;  // and the deliveries
  BuffersOfSteps beginning(steps, life.size()), ending(steps, life.size());
  for (std::size_t i = life.size(); i-- > kOwnBuffers;) {
    if (life[i].empty()) {
      plan.buffers[i].offset = std::max<std::int64_t>(plan.buffers[i].offset, 0);
      continue;
    }
    beginning.add(life[i].first, i);
    ending.add(life[i].last, i);
  }
  Arena arena;
  const auto place_of = [&](const Buffer& buffer) {
    return Interval{buffer.offset, buffer.offset + bytes_of(problem, buffer)};
  };
  for (std::size_t step = 0; step < steps; ++step) {
    beginning.for_each(step, [&](std::size_t i) {
      Buffer& buffer = plan.buffers[i];
      if (buffer.rows == 0) {
        buffer.offset = std::max<std::int64_t>(buffer.offset, 0);
      } else if (buffer.offset < 0) {
        buffer.offset = arena.take(bytes_of(problem, buffer));
      } else {
        arena.reserve(place_of(buffer));
      }
    });
    ending.for_each(step, [&](std::size_t i) {
      if (const Interval place = place_of(plan.buffers[i]); !place.empty()) arena.give_back(place);
    });
  }
  plan.arena_bytes = aligned(arena.size());
}

}  // namespace longseq
