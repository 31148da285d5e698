// Parts of a buffer: rows of some of its heads.
#pragma once

#include <boost/container/small_vector.hpp>
#include <cstdint>

#include "kernels/positions.h"

namespace longseq {

struct Area {
  Interval rows;
  Interval heads;

  std::int64_t size() const { return rows.size() * heads.size(); }
};
using Areas = boost::container::small_vector<Area, 1>;

/// What of `area` lies in none of `holes`, in parts that do not overlap.
Areas beyond(const Area& area, const Areas& holes);

}  // namespace longseq
