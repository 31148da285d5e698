// How rows of the forward engine's tensors get into its tiles and out of them. Not for use outside kernels/.
#pragma once

#include <cstdint>

#include "kernels/forward_task.h"

namespace longseq::detail {

/// The tile's queries q become q + u; `position_queries`, as tile.queries, q + v. They are of one head.
template <class A>
void add_query_biases(const RelativeKeys<A>& relative, const FoldedRows& queries, ForwardTile<A>& tile,
                      A* position_queries);

/// The tile, whose outputs are clear, has seen no key.
template <class A>
void begin_from_nothing(ForwardTile<A>& tile);
/// For the next task; best while they are in the first-level cache.
template <class A>
void clear_outputs(ForwardTile<A>& tile);
/// From a state that other calls have left, which may hold nothing yet.
template <class A>
void load_state(const AttentionState<A>& state, std::int64_t batch, const FoldedRows& queries,
                ForwardTile<A>& tile);
template <class A>
void store_state(const ForwardTile<A>& tile, const AttentionState<A>& state, std::int64_t batch,
                 const FoldedRows& queries);
template <class T>
void store_result(const ForwardTile<Accumulator<T>>& tile, const AttentionResult<T>& result,
                  std::int64_t batch, const FoldedRows& queries);

/// The piece's keys in the type that is computed in: where they lie, or widened into the scratch.
template <class T>
KeyRows<Accumulator<T>> widen(const KeyBlock<T>& keys, std::int64_t b, std::int64_t kv_head, Interval piece,
                              ForwardScratch<T>& scratch);
/// The piece's keys and values as pairs: of dimensions, and of keys. A piece of an odd number gets a key of
/// zeros.
KeyRows<Pair> pair(const KeyBlock<BFloat16>& keys, std::int64_t b, std::int64_t kv_head, Interval piece,
                   ForwardScratch<BFloat16>& scratch);
/// The same for the matrix unit: the values transposed, and zeros beyond the piece.
KeyRows<Pair> transpose_values(const KeyBlock<BFloat16>& keys, std::int64_t b, std::int64_t kv_head,
                               Interval piece, ForwardScratch<BFloat16>& scratch);

}  // namespace longseq::detail
