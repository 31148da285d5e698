#include "kernels/backward_terms.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "kernels/tiles/relative_scores.h"

namespace longseq::detail {
namespace {

constexpr std::int64_t kShared = kBackwardLanes - 1;  // distances that a piece has beyond its keys
constexpr std::int64_t kRows = kBackwardKeys + kShared;

/// The distances between a tile and a piece, the piece's first key first.
DistanceRows distances_of(Run query_positions, Run key_positions, const FoldedRows& queries,
                          const Piece& piece) {
  const DistanceRows whole = distances_to(query_positions, queries.token(0), kBackwardLanes, key_positions);
  return {whole.at(piece.keys.begin), whole.stride};
}

/// Where the gradient of the tile's head begins in the task's dr.
template <class T>
Accumulator<T>* dr_of_head(const BackwardCall<T>& call, const FoldedRows& queries,
                           BackwardScratch<T>& scratch) {
  const std::int64_t head = queries.head(0) % call.group();
  return scratch.relative.dr.data() + head * scratch.relative.distances.size() * scratch.tile.stride;
}

/// The rows of r for all distances between the call's queries and keys, and those that tiles compute beside
/// them.
template <class T>
Interval distances_met(const BackwardCall<T>& call) {
  Interval queries, keys;
  std::int64_t stride = 1;
  const auto take = [&stride](Interval& all, const Run& positions) {
    stride = std::max(stride, positions.stride);
    all = hull_of(all, {positions.start, positions.last() + 1});
  };
  for (const GradientQueries<T>& block : call.queries) take(queries, block.positions);
  for (const GradientKeys<T>& block : call.keys) take(keys, block.positions);
  const RelativeKeys<Accumulator<T>>& relative = call.terms.relative;
  return {relative.row_of(queries.begin - keys.end),
          relative.row_of(queries.end + stride * kBackwardLanes - keys.begin) + 1};
}

}  // namespace

std::int64_t relative_elements(std::int64_t head_dim) {
  const std::int64_t stride = packed_stride(head_dim);
  return (head_dim + 2 * stride) * kBackwardLanes + kRows * (2 * stride + kBackwardLanes);
}

template <class T>
void prepare_terms(const BackwardCall<T>& call, BackwardScratch<T>& scratch) {
  using A = Accumulator<T>;
  if (call.gradients.bias != nullptr) {
    scratch.bias.assign(static_cast<std::size_t>(call.group() * call.terms.bias.row_size()), A{0});
  }
  if (!call.terms.relative.present()) return;
  auto& relative = scratch.relative;
  const std::int64_t head_dim = scratch.tile.head_dim, stride = scratch.tile.stride;
  relative.memory = Tensor<A>({1, 1, relative_elements(head_dim), 1});
  A* next = relative.memory.data();
  const auto take = [&next](std::int64_t count) { return std::exchange(next, next + count); };
  relative.query_lanes = take(head_dim * kBackwardLanes);
  relative.query_rows = take(stride * kBackwardLanes);
  relative.dq_rows = take(stride * kBackwardLanes);
  relative.rows = take(kRows * stride);
  relative.d_rows = take(kRows * stride);
  relative.products = take(kRows * kBackwardLanes);
  if (call.gradients.r.data != nullptr) {
    relative.d_biases.assign(static_cast<std::size_t>(2 * call.group() * head_dim), A{0});
    relative.distances = distances_met(call);
    relative.dr.assign(static_cast<std::size_t>(call.group() * relative.distances.size() * stride), A{0});
  }
}

template <class T>
void add_query_biases(const BackwardCall<T>& call, const FoldedRows& queries, BackwardScratch<T>& scratch) {
  using A = Accumulator<T>;
  const BackwardTile<A>& tile = scratch.tile;
  const BackwardOperands<A>& operands = scratch.operands;
  auto& relative = scratch.relative;
  std::copy_n(operands.query_lanes, tile.head_dim * kBackwardLanes, relative.query_lanes);
  std::copy_n(operands.query_rows, tile.stride * kBackwardLanes, relative.query_rows);
  std::fill_n(relative.dq_rows, tile.stride * kBackwardLanes, A{0});
  const auto add = [&](const A* biases, A* lanes, A* rows) {
    if (biases == nullptr) return;
    const A* const bias = biases + queries.head(0) * tile.head_dim;
    for (std::int64_t t = 0; t < queries.rows.size(); ++t) {
      A* const own = lanes + t / kLaneBlock * tile.head_dim * kLaneBlock + t % kLaneBlock;
      for (std::int64_t d = 0; d < tile.head_dim; ++d) {
        rows[t * tile.stride + d] += bias[d];
        own[d * kLaneBlock] = rows[t * tile.stride + d];
      }
    }
  };
  add(call.terms.relative.content_bias, operands.query_lanes, operands.query_rows);
  add(call.terms.relative.position_bias, relative.query_lanes, relative.query_rows);
}

template <class T>
void score_relative(const BackwardCall<T>& call, Run query_positions, Run key_positions,
                    const FoldedRows& queries, const Piece& piece, BackwardScratch<T>& scratch) {
  auto& relative = scratch.relative;
  const BackwardTile<Accumulator<T>>& tile = scratch.tile;
  const std::int64_t rows = piece.keys.size() + kShared;
  gather_relative_rows(call.terms.relative, queries.head(0),
                       distances_of(query_positions, key_positions, queries, piece), {0, rows}, relative.rows,
                       tile.stride);
  multiply_rows(relative.rows, tile.stride, rows, tile.head_dim, relative.query_lanes, kBackwardLanes,
                relative.products);
  shear(relative.products, piece.keys.size(), kBackwardLanes, scratch.scores.d_scores);
}

template <class T>
void add_bias_gradient(const BackwardCall<T>& call, Run key_positions, const Piece& piece,
                       BackwardScratch<T>& scratch) {
  using A = Accumulator<T>;
  const std::int64_t reach = call.terms.bias.reach;
  const std::int64_t own_tables = call.group() * call.terms.bias.row_size();
  const Lanes<A>& lanes = scratch.tile.lanes;
  A* const table = scratch.bias.data();
  const auto column = [&](std::int64_t lane, std::int64_t distance) {
    const std::int64_t at = lanes.table[lane] % own_tables + distance;
    scratch.bias_touched = hull_of(scratch.bias_touched, {at, at + 1});
    return at;
  };
  // What lies beyond the table's ends, in lanes of its own: one sum would wait for itself.
  std::array<A, kBackwardLanes> before{}, after{};
  for (int s = 0; s < piece.span_count; ++s) {
    const Span& span = piece.spans[s];
    const std::int64_t first = span.first_lane, last = std::min(span.last_lane, lanes.count);
    if (first >= last) continue;
    const bool neighbours = call.fold == 1 && lanes.table[last - 1] == lanes.table[first] &&
                            lanes.position[last - 1] - lanes.position[first] == last - 1 - first;
    // Distances rise from lane to lane and fall from key to key.
    std::int64_t begin = first, end = first;  // the lanes whose distance the table has
    for (std::int64_t key = span.keys.begin; key < span.keys.end; ++key) {
      const A* const d_score = scratch.scores.d_scores + (key - piece.keys.begin) * kBackwardLanes;
      const auto distance = [&, from = key * key_positions.stride](std::int64_t lane) {
        return static_cast<std::int64_t>(lanes.position[lane]) - from;
      };
      while (begin < last && distance(begin) < -reach) ++begin;
      while (end < last && distance(end) <= reach) ++end;
      for (std::int64_t t = first; t < begin; ++t) before[static_cast<std::size_t>(t)] += d_score[t];
      for (std::int64_t t = end; t < last; ++t) after[static_cast<std::size_t>(t)] += d_score[t];
      if (begin == end) continue;
      if (neighbours) {
        A* const own = table + column(begin, distance(begin)) - begin;
        column(end - 1, distance(end - 1));
        for (std::int64_t t = begin; t < end; ++t) own[t] += d_score[t];
      } else {
        for (std::int64_t t = begin; t < end; ++t) table[column(t, distance(t))] += d_score[t];
      }
    }
  }
  for (std::int64_t t = 0; t < lanes.count; ++t) {
    const auto lane = static_cast<std::size_t>(t);
    if (before[lane] != A{0}) table[column(t, -reach)] += before[lane];
    if (after[lane] != A{0}) table[column(t, reach)] += after[lane];
  }
}

template <class T>
void add_relative_gradients(const BackwardCall<T>& call, Run query_positions, Run key_positions,
                            const FoldedRows& queries, const Piece& piece, BackwardScratch<T>& scratch) {
  using A = Accumulator<T>;
  auto& relative = scratch.relative;
  const std::int64_t width = scratch.tile.width, stride = scratch.tile.stride,
                     rows = piece.keys.size() + kShared;
  // dS back from keys to distances: the shear of score_relative() undone.
  A* d_products = relative.products;
  std::fill_n(d_products, rows * kBackwardLanes, A{0});
  for (int s = 0; s < piece.span_count; ++s) {
    const Span& span = piece.spans[s];
    for (std::int64_t n = span.keys.begin - piece.keys.begin; n < span.keys.end - piece.keys.begin; ++n) {
      for (std::int64_t t = span.first_lane; t < span.last_lane; ++t)
        d_products[(n + kShared - t) * kBackwardLanes + t] = scratch.scores.d_scores[n * kBackwardLanes + t];
    }
  }
  add_row_product(RowProduct<A>{relative.dq_rows, stride, kBackwardLanes, kBackwardLanes, d_products, true,
                                relative.rows, stride, rows, width});
  if (call.gradients.r.data == nullptr) return;
  add_row_product(RowProduct<A>{relative.d_rows, stride, rows, 0, d_products, false, relative.query_rows,
                                stride, kBackwardLanes, width});
  const DistanceRows distances = distances_of(query_positions, key_positions, queries, piece);
  A* dr = dr_of_head(call, queries, scratch);
  for (std::int64_t i = 0; i < rows; ++i) {
    const std::int64_t row = call.terms.relative.row_of(distances.at(i));
    A* own = dr + (row - relative.distances.begin) * stride;
    for (std::int64_t d = 0; d < width; ++d) own[d] += relative.d_rows[i * stride + d];
    relative.touched = hull_of(relative.touched, {row, row + 1});
  }
}

template <class T>
void join_query_gradients(const BackwardCall<T>& call, const FoldedRows& queries,
                          BackwardScratch<T>& scratch) {
  using A = Accumulator<T>;
  const std::int64_t head_dim = scratch.tile.head_dim, stride = scratch.tile.stride;
  A* const content = scratch.tile.dq.rows;
  A* const position = scratch.relative.dq_rows;
  if (call.gradients.r.data != nullptr) {
    A* const du = scratch.relative.d_biases.data() + queries.head(0) % call.group() * head_dim;
    A* const dv = du + call.group() * head_dim;
    for (std::int64_t t = 0; t < queries.rows.size(); ++t) {
      for (std::int64_t d = 0; d < head_dim; ++d) {
        du[d] += content[t * stride + d];
        dv[d] += position[t * stride + d];
      }
    }
  }
  for (std::int64_t t = 0; t < queries.rows.size(); ++t) {
    for (std::int64_t d = 0; d < head_dim; ++d) content[t * stride + d] += position[t * stride + d];
  }
}

template <class T>
void add_term_gradients(BackwardCall<T>& call, const BackwardTask& task, BackwardScratch<T>& scratch,
                        const Poll& poll) {
  using A = Accumulator<T>;
  if (call.gradients.bias == nullptr && call.gradients.r.data == nullptr) return;
  Procession& procession = call.by_head[static_cast<std::size_t>(task.kv_head)];
  procession.wait(task.place_terms, poll);
  const std::int64_t first_head = task.kv_head * call.group();
  if (call.gradients.bias != nullptr) {
    A* out = call.gradients.bias + first_head * call.terms.bias.row_size();
    for (std::int64_t at = scratch.bias_touched.begin; at < scratch.bias_touched.end; ++at)
      out[at] += std::exchange(scratch.bias[static_cast<std::size_t>(at)], A{0});
    scratch.bias_touched = {};
  }
  if (call.gradients.r.data != nullptr) {
    const A factor = static_cast<A>(1.0 / std::sqrt(static_cast<double>(scratch.tile.head_dim)));
    const std::int64_t stride = scratch.tile.stride;
    const Interval distances = scratch.relative.distances;
    A* sum = scratch.relative.d_biases.data();
    for (A* const out : {call.gradients.content_bias, call.gradients.position_bias}) {
      for (std::int64_t at = 0; at < call.group() * scratch.tile.head_dim; ++at)
        out[first_head * scratch.tile.head_dim + at] += factor * std::exchange(*sum++, A{0});
    }
    for (std::int64_t h = 0; h < call.group(); ++h) {
      for (std::int64_t n = scratch.relative.touched.begin; n < scratch.relative.touched.end; ++n) {
        A* out = call.gradients.r.row(0, first_head + h, n);
        A* own = scratch.relative.dr.data() + (h * distances.size() + n - distances.begin) * stride;
        for (std::int64_t d = 0; d < scratch.tile.head_dim; ++d)
          out[d] += factor * std::exchange(own[d], A{0});
      }
    }
    scratch.relative.touched = {};
  }
  procession.leave(task.place_terms);
}

#define LONGSEQ_INSTANTIATE(T)                                                                               \
  template void add_query_biases<T>(const BackwardCall<T>&, const FoldedRows&, BackwardScratch<T>&);         \
  template void join_query_gradients<T>(const BackwardCall<T>&, const FoldedRows&, BackwardScratch<T>&);     \
  template void prepare_terms<T>(const BackwardCall<T>&, BackwardScratch<T>&);                               \
  template void score_relative<T>(const BackwardCall<T>&, Run, Run, const FoldedRows&, const Piece&,         \
                                  BackwardScratch<T>&);                                                      \
  template void add_bias_gradient<T>(const BackwardCall<T>&, Run, const Piece&, BackwardScratch<T>&);        \
  template void add_relative_gradients<T>(const BackwardCall<T>&, Run, Run, const FoldedRows&, const Piece&, \
                                          BackwardScratch<T>&);                                              \
  template void add_term_gradients<T>(BackwardCall<T>&, const BackwardTask&, BackwardScratch<T>&,            \
                                      const Poll&);
LONGSEQ_INSTANTIATE(float)
LONGSEQ_INSTANTIATE(double)
LONGSEQ_INSTANTIATE(BFloat16)
#undef LONGSEQ_INSTANTIATE

}  // namespace longseq::detail
