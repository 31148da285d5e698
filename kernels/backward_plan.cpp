#include "kernels/backward_plan.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>

namespace longseq::detail {
namespace {

std::int64_t ceiling(std::int64_t dividend, std::int64_t divisor) {
  return (dividend + divisor - 1) / divisor;
}

/// The tasks of a key block for one head, ascending.
std::vector<BackwardTask> tasks_of(std::size_t block, std::span<const BackwardTask> tasks) {
  std::vector<BackwardTask> own;
  std::copy_if(tasks.begin(), tasks.end(), std::back_inserter(own), [block](const BackwardTask& task) {
    return task.block == block && task.batch == 0 && task.kv_head == 0;
  });
  return own;
}

/// The one of them that has a row of the block.
std::vector<BackwardTask>::const_iterator holder_of(std::int64_t row, const std::vector<BackwardTask>& own) {
  const auto first = std::partition_point(own.begin(), own.end(),
                                          [row](const BackwardTask& task) { return task.keys.end <= row; });
  return first != own.end() && first->keys.contains(row) ? first : own.end();
}

}  // namespace

template <class T>
std::vector<BackwardTask> plan_tasks(const Pattern& pattern, std::span<const GradientQueries<T>> queries,
                                     std::span<const GradientKeys<T>> keys) {
  const Shape& shape = keys.front().k.shape;
  std::int64_t all_keys = 0;
  for (const GradientKeys<T>& block : keys) all_keys += shape.batch * shape.heads * block.positions.count;
  constexpr std::int64_t kFewestTasks = 16;
  const std::int64_t most_keys =
      std::clamp(all_keys / kFewestTasks, kBackwardKeys, most_task_keys(shape.head_dim));
  std::vector<BackwardTask> tasks;
  std::vector<std::size_t> places(static_cast<std::size_t>(shape.batch * shape.heads)), places_terms(places);
  for (std::size_t index = 0; index < keys.size(); ++index) {
    const Run positions = keys[index].positions;
    // As few as may be, of whole pieces, alike in size.
    const std::int64_t block_tasks = ceiling(positions.count, most_keys);
    const std::int64_t task_keys =
        ceiling(positions.count, std::max<std::int64_t>(block_tasks, 1) * kBackwardKeys) * kBackwardKeys;
    for (std::int64_t begin = 0; begin < positions.count; begin += task_keys) {
      const Interval own{begin, std::min(begin + task_keys, positions.count)};
      std::int64_t work = 0;
      for (const std::size_t block : keys[index].queries)
        work += pattern.area(queries[block].positions, positions.slice(own));
      if (work == 0 && intersect(own, keys[index].first).empty()) continue;  // the first writes zeros
      for (std::int64_t b = 0; b < shape.batch; ++b) {
        for (std::int64_t h = 0; h < shape.heads; ++h) {
          tasks.push_back({index, b, h, own, places[static_cast<std::size_t>(b * shape.heads + h)]++,
                           places_terms[static_cast<std::size_t>(h)]++});
        }
      }
    }
  }
  return tasks;
}

template <class T>
Guests invite_guests(const BackwardCall<T>& call, std::span<const BackwardTask> tasks) {
  const std::int64_t tokens = call.pattern.kind == PatternKind::global ? call.pattern.global_tokens : 0;
  if (call.products != PairProducts::none || call.terms.relative.present()) return {};
  for (std::size_t block = 0; block < call.keys.size(); ++block) {
    const Run positions = call.keys[block].positions;
    const Interval rows = positions.rows_in({0, tokens});
    if (rows.empty() || rows.size() > kBackwardKeys) continue;
    const std::vector<BackwardTask> own = tasks_of(block, tasks);
    const auto owner = holder_of(rows.begin, own);
    if (owner == own.end() || owner->keys.end < rows.end) continue;
    Guests guests{block, rows,
                  std::vector(static_cast<std::size_t>(call.first_tile.back()), Guests::kNoHost)};
    for (const std::size_t index : call.keys[block].queries) {
      for (std::int64_t tile = 0; tile < call.tiles(index); ++tile) {
        const FoldedRows lanes = call.rows(index, 0, 0, tile);
        const Run queries = call.queries[index].positions.slice(lanes.tokens());
        const std::int64_t row = positions.rows_before(queries.start);
        const auto host = holder_of(row, own);
        const bool meets = host != own.end() && positions.at(row) == queries.start;
        const VisibleKeys seen = call.pattern.keys_seen_by(queries);
        if (meets && seen.second.begin > positions.at(owner->keys.end - 1))
          guests.hosts[static_cast<std::size_t>(call.first_tile[index] + tile)] = host->place;
      }
    }
    return guests;
  }
  return {};
}

#define LONGSEQ_INSTANTIATE(T)                                                                          \
  template std::vector<BackwardTask> plan_tasks<T>(const Pattern&, std::span<const GradientQueries<T>>, \
                                                   std::span<const GradientKeys<T>>);                   \
  template Guests invite_guests<T>(const BackwardCall<T>&, std::span<const BackwardTask>);
LONGSEQ_INSTANTIATE(float)
LONGSEQ_INSTANTIATE(double)
LONGSEQ_INSTANTIATE(BFloat16)
#undef LONGSEQ_INSTANTIATE

}  // namespace longseq::detail
