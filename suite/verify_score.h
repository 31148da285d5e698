// One score in f64, straight from its definition (maths.md, sections 1 and 5).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/attention.h"

namespace longseq {

/// r_head(distance).
template <class A>
const A* relative_key(const RelativeKeys<A>& relative, std::int64_t head, std::int64_t distance) {
  const std::int64_t row = distance - relative.first_distance;
  return relative.r.row(0, head, std::clamp<std::int64_t>(row, 0, relative.r.shape.tokens - 1));
}

/// c · (query + u)·key + c · (query + v)·r(distance) + b(distance), of what of this the terms have.
template <class A, class Q, class K>
double exact_score(const PositionTerms<A>& terms, std::int64_t head, std::int64_t distance, const Q* query,
                   const K* key, std::int64_t head_dim) {
  double product = 0;
  for (std::int64_t d = 0; d < head_dim; ++d)
    product += static_cast<double>(query[d]) * static_cast<double>(key[d]);
  if (terms.relative.present()) {
    const A* const u = terms.relative.content_bias + head * head_dim;
    const A* const v = terms.relative.position_bias + head * head_dim;
    const A* const r = relative_key(terms.relative, head, distance);
    for (std::int64_t d = 0; d < head_dim; ++d) {
      product += static_cast<double>(u[d]) * static_cast<double>(key[d]) +
                 (static_cast<double>(query[d]) + static_cast<double>(v[d])) * static_cast<double>(r[d]);
    }
  }
  const double score = product / std::sqrt(static_cast<double>(head_dim));
  if (terms.bias.values == nullptr) return score;
  const std::int64_t column = std::clamp(distance, -terms.bias.reach, terms.bias.reach) + terms.bias.reach;
  return score + static_cast<double>(terms.bias.values[head * terms.bias.row_size() + column]);
}

}  // namespace longseq
