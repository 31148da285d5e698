#include "drivers/sharding/gradient_starts.h"

namespace longseq {
namespace {

/// A gradient buffer of which parts hold nothing yet.
struct Beginning {
  Area whole;
  std::int64_t missing = whole.size();  // elements of a column
  Areas held{};

  Areas missing_of(const Area& area) const { return beyond(area, held); }
  void fill(const Area& area) {
    held.push_back(area);
    missing -= area.size();
  }
};

class Beginnings {
 public:
  Beginnings(const RankPlan& plan, GradientStarts& starts)
      : plan_(plan), starts_(starts), places_(plan.buffers.size(), kDone) {
    for (std::size_t i = 0; i < places_.size(); ++i) {
      const Payload payload = plan.buffers[i].payload;
      if (payload == Payload::query_gradients || payload == Payload::key_gradients) places_[i] = kUntouched;
    }
  }

  /// The rows of an area that a tile is the first to give: all, one run of them if `part` will do, or none.
  /// What else of it holds nothing becomes zero.
  Interval give(int buffer, const Area& area, std::size_t step, bool part) {
    Beginning* const own = find(buffer);
    if (own == nullptr) return {};
    if (own->held.size() >= kMostHeld) {
      use(buffer, step);
      return {};
    }
    const Areas missing = own->missing_of(area);
    if (missing.size() == 1 && missing.front().heads == area.heads &&
        (part || missing.front().rows == area.rows)) {
      fill(buffer, *own, missing.front());
      return missing.front().rows;
    }
    set_to_zero(buffer, *own, missing, step);
    return {};
  }

  void receive(const Transfer& transfer) {
    for (const Interval& rows : plan_.rows_of(transfer)) {
      Beginning* const own = find(transfer.buffer);
      if (own == nullptr) return;
      for (const Area& part : own->missing_of({rows, transfer.heads})) fill(transfer.buffer, *own, part);
    }
  }

  /// The whole buffer is read, or added to.
  void use(int buffer, std::size_t step) {
    if (Beginning* const own = find(buffer)) set_to_zero(buffer, *own, own->missing_of(own->whole), step);
  }

 private:
  static constexpr std::size_t kMostHeld = 64;       // more take too long to look through
  static constexpr int kUntouched = -1, kDone = -2;  // all of it holds something, or it is no gradient

  Beginning* find(int buffer) {
    int& place = places_[static_cast<std::size_t>(buffer)];
    if (place == kDone) return nullptr;
    if (place == kUntouched) {
      place = static_cast<int>(begun_.size());
      const Buffer& own = buffer_of(plan_, buffer);
      begun_.push_back({{{0, own.rows}, own.heads}});
    }
    return &begun_[static_cast<std::size_t>(place)];
  }

  void fill(int buffer, Beginning& own, const Area& area) {
    own.fill(area);
    if (own.missing == 0) places_[static_cast<std::size_t>(buffer)] = kDone;
  }

  void set_to_zero(int buffer, Beginning& own, const Areas& areas, std::size_t step) {
    for (const Area& area : areas) {
      starts_.zeros.push_back({step, buffer, area});
      fill(buffer, own, area);
    }
  }

  const RankPlan& plan_;
  GradientStarts& starts_;
  std::vector<int> places_;  // [buffer]: in begun_
  std::vector<Beginning> begun_;
};

}  // namespace

GradientStarts gradient_starts(const Problem& problem, const RankPlan& plan) {
  GradientStarts starts;
  if (problem.pass == Pass::forward) return starts;
  Beginnings beginnings(plan, starts);
  for (std::size_t s = 0; s < plan.steps.size(); ++s) {
    const Step& step = plan.steps[s];
    for (const Transfer& send : plan.sends_of(step)) beginnings.use(send.buffer, s);
    for (const Tile& tile : plan.tiles_of(step)) {
      const Interval kv_heads = problem.kv_heads_of(tile.heads);
      starts.tiles.push_back({!beginnings.give(tile.into, {tile.query_rows, tile.heads}, s, false).empty(),
                              beginnings.give(tile.key_gradients, {tile.key_rows, kv_heads}, s, true)});
    }
    for (const Transfer& receive : plan.receives_of(step)) beginnings.receive(receive);
    for (const Merge& merge : plan.merges_of(step)) {
      beginnings.use(merge.from, s);
      beginnings.use(merge.into, s);
    }
  }
  for (const int own : {kOwnQueryGradients, kOwnKeyGradients}) beginnings.use(own, plan.steps.size());
  return starts;
}

}  // namespace longseq
