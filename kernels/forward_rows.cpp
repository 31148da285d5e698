#include "kernels/forward_rows.h"

#include <algorithm>
#include <limits>
#include <type_traits>

#include "kernels/tiles/pairs.h"
#include "kernels/tiles/row_copy.h"

namespace longseq::detail {

template <class A>
void add_query_biases(const RelativeKeys<A>& relative, const FoldedRows& queries, ForwardTile<A>& tile,
                      A* position_queries) {
  const std::int64_t first = queries.head(0) * tile.head_dim;
  const auto bias = [&](const A* biases, std::int64_t d) {
    return biases == nullptr ? A{0} : biases[first + d];
  };
  for (std::int64_t d = 0; d < tile.head_dim; ++d) {
    A* const own = tile.queries + d * kForwardLanes;
    const A content = bias(relative.content_bias, d), position = bias(relative.position_bias, d);
    for (std::int64_t t = 0; t < kForwardLanes; ++t) {
      position_queries[d * kForwardLanes + t] = own[t] + position;
      own[t] += content;
    }
  }
}

template <class A>
void begin_from_nothing(ForwardTile<A>& tile) {
  std::fill_n(tile.maximum, kForwardLanes, -std::numeric_limits<A>::infinity());
  tile.has_earlier = false;
  tile.pieces = 0;
}

template <class A>
void clear_outputs(ForwardTile<A>& tile) {
  std::fill_n(tile.outputs, (tile.head_dim + 1) * kForwardLanes, A{0});
}

template <class A>
void load_state(const AttentionState<A>& state, std::int64_t batch, const FoldedRows& queries,
                ForwardTile<A>& tile) {
  begin_from_nothing(tile);
  A* const sum = tile.earlier + tile.head_dim * kForwardLanes;
  std::fill_n(sum, kForwardLanes, A{0});
  queries.for_each([&](std::int64_t t, std::int64_t head, std::int64_t token) {
    tile.maximum[t] = *state.maximum.row(batch, head, token);
    sum[t] = *state.sum.row(batch, head, token);
    tile.has_earlier = tile.has_earlier || sum[t] != A{0};
  });
  if (!tile.has_earlier) return;
  const auto rows = rows_of<kForwardLanes>(state.o, batch, queries);
  rows_to_lanes<A>(rows.data(), queries.rows.size(), tile.head_dim, tile.earlier, kForwardLanes);
  for (std::int64_t t = 0; t < queries.rows.size(); ++t) {
    if (sum[t] != A{0}) continue;  // else the row has seen no key yet, and its outputs may be uninitialised
    for (std::int64_t d = 0; d < tile.head_dim; ++d) tile.earlier[d * kForwardLanes + t] = A{0};
  }
}

template <class A>
void store_state(const ForwardTile<A>& tile, const AttentionState<A>& state, std::int64_t batch,
                 const FoldedRows& queries) {
  queries.for_each([&](std::int64_t t, std::int64_t head, std::int64_t token) {
    *state.maximum.row(batch, head, token) = tile.maximum[t];
    *state.sum.row(batch, head, token) = tile.sum[t];
  });
  const auto rows = rows_of<kForwardLanes>(state.o, batch, queries);
  lanes_to_rows<A>(tile.outputs, kForwardLanes, queries.rows.size(), tile.head_dim, nullptr, rows.data());
}

template <class T>
void store_result(const ForwardTile<Accumulator<T>>& tile, const AttentionResult<T>& result,
                  std::int64_t batch, const FoldedRows& queries) {
  using A = Accumulator<T>;
  alignas(64) A lse[kForwardLanes], factors[kForwardLanes];
  finish_rows(tile.maximum, tile.sum, lse, factors);
  queries.for_each([&](std::int64_t t, std::int64_t head, std::int64_t token) {
    *result.lse.row(batch, head, token) = lse[t];
  });
  const auto rows = rows_of<kForwardLanes>(result.o, batch, queries);
  lanes_to_rows<T>(tile.outputs, kForwardLanes, queries.rows.size(), tile.head_dim, factors, rows.data());
}

template <class T>
KeyRows<Accumulator<T>> widen(const KeyBlock<T>& keys, std::int64_t b, std::int64_t kv_head, Interval piece,
                              ForwardScratch<T>& scratch) {
  if constexpr (std::is_same_v<T, Accumulator<T>>) {
    return {keys.k.row(b, kv_head, 0),
            keys.v.row(b, kv_head, 0),
            keys.k.token_stride,
            keys.v.token_stride,
            0,
            &scratch.coming};
  } else {
    const std::int64_t head_dim = keys.k.shape.head_dim;
    pack_rows(keys.k.row(b, kv_head, piece.begin), keys.k.token_stride, piece.size(), head_dim, scratch.k,
              head_dim);
    pack_rows(keys.v.row(b, kv_head, piece.begin), keys.v.token_stride, piece.size(), head_dim, scratch.v,
              head_dim);
    return {scratch.k, scratch.v, head_dim, head_dim, piece.begin, &scratch.coming};
  }
}

KeyRows<Pair> pair(const KeyBlock<BFloat16>& keys, std::int64_t b, std::int64_t kv_head, Interval piece,
                   ForwardScratch<BFloat16>& scratch) {
  const std::int64_t head_dim = keys.k.shape.head_dim;
  Pair* k = reinterpret_cast<Pair*>(scratch.k);
  Pair* v = reinterpret_cast<Pair*>(scratch.v);
  pack_rows(reinterpret_cast<const Pair*>(keys.k.row(b, kv_head, piece.begin)), keys.k.token_stride / 2,
            piece.size(), head_dim / 2, k, head_dim / 2);
  std::fill_n(k + piece.size() * head_dim / 2, piece.size() % 2 * head_dim / 2, Pair{});
  pair_rows(keys.v.row(b, kv_head, piece.begin), keys.v.token_stride, piece.size(), head_dim, v, head_dim);
  return {k, v, head_dim / 2, head_dim, piece.begin, &scratch.coming};
}

KeyRows<Pair> transpose_values(const KeyBlock<BFloat16>& keys, std::int64_t b, std::int64_t kv_head,
                               Interval piece, ForwardScratch<BFloat16>& scratch) {
  const std::int64_t head_dim = keys.k.shape.head_dim, half = head_dim / 2;
  constexpr std::int64_t kPairs = kForwardKeys / 2, kRow = kPairs + kMatrixSide;
  Pair* const k = reinterpret_cast<Pair*>(scratch.k);  // with v one after the other, and room enough
  Pair* const pairs = k + kRow * head_dim;
  Pair* const v = pairs + kPairs * head_dim;
  transpose_pairs(keys.v.row(b, kv_head, piece.begin), keys.v.token_stride, piece.size(), head_dim, pairs, v,
                  kRow);
  const Pair* const rows = reinterpret_cast<const Pair*>(keys.k.row(b, kv_head, piece.begin));
  if (piece.end + kMatrixDepth <= keys.k.shape.tokens)  // what lies beyond may be read, too
    return {rows, v, keys.k.token_stride / 2, kRow, piece.begin, &scratch.coming};
  pack_rows(rows, keys.k.token_stride / 2, piece.size(), half, k, half);
  std::fill_n(k + piece.size() * half, kMatrixDepth * half, Pair{});
  return {k, v, half, kRow, piece.begin, &scratch.coming};
}

#define LONGSEQ_INSTANTIATE(A)                                                                             \
  template void begin_from_nothing<A>(ForwardTile<A>&);                                                    \
  template void clear_outputs<A>(ForwardTile<A>&);                                                         \
  template void add_query_biases<A>(const RelativeKeys<A>&, const FoldedRows&, ForwardTile<A>&, A*);       \
  template void load_state<A>(const AttentionState<A>&, std::int64_t, const FoldedRows&, ForwardTile<A>&); \
  template void store_state<A>(const ForwardTile<A>&, const AttentionState<A>&, std::int64_t,              \
                               const FoldedRows&);
LONGSEQ_INSTANTIATE(float)
LONGSEQ_INSTANTIATE(double)
#undef LONGSEQ_INSTANTIATE
#define LONGSEQ_INSTANTIATE(T)                                                                               \
  template void store_result<T>(const ForwardTile<Accumulator<T>>&, const AttentionResult<T>&, std::int64_t, \
                                const FoldedRows&);                                                          \
  template KeyRows<Accumulator<T>> widen<T>(const KeyBlock<T>&, std::int64_t, std::int64_t, Interval,        \
                                            ForwardScratch<T>&);
LONGSEQ_INSTANTIATE(float)
LONGSEQ_INSTANTIATE(double)
LONGSEQ_INSTANTIATE(BFloat16)
#undef LONGSEQ_INSTANTIATE

}  // namespace longseq::detail
