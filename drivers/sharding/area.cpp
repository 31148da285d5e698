#include "drivers/sharding/area.h"

namespace longseq {
namespace {

void add_beyond(const Area& area, const Area& hole, Areas& parts) {
  const Area common{intersect(area.rows, hole.rows), intersect(area.heads, hole.heads)};
  const auto add = [&](Interval rows, Interval heads) {
    if (const Area part{rows, heads}; part.size() > 0) parts.push_back(part);
  };
  if (common.size() == 0) return add(area.rows, area.heads);
  add({area.rows.begin, common.rows.begin}, area.heads);
  add(common.rows, {area.heads.begin, common.heads.begin});
  add(common.rows, {common.heads.end, area.heads.end});
  add({common.rows.end, area.rows.end}, area.heads);
}

}  // namespace

Areas beyond(const Area& area, const Areas& holes) {
  Areas left{area}, parts;
  for (const Area& hole : holes) {
    parts.clear();
    for (const Area& part : left) add_beyond(part, hole, parts);
    left.swap(parts);
  }
  return left;
}

}  // namespace longseq
