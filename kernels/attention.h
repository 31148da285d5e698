// Forward attention on one node, for every pattern, by one engine over tiles.
//
//   s_ij = c · q_i·k_j + bias(i − j),  o_i = Σ_j softmax_j(s_ij) v_j,  lse_i = log Σ_j exp(s_ij),  c =
//   1/√head_dim
//
// over the visible keys j (maths.md, section 1). Keys come block by block: the state of the streaming softmax
// (Milakov & Gimelshein 2018; Dao et al. 2022, algorithm 1) lies between calls in the caller's memory, so
// that a step of a ring is one call. A call needs its inputs, its state and a scratch per thread that fits
// the second-level cache; there is no buffer of seq_len² anywhere. Results are the same, bit for bit, for any
// number of threads.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "kernels/pattern.h"
#include "kernels/tensor.h"

namespace longseq {

/// The bias of position terms that depend on the distance i − j alone (ALiBi, learned tables): one row of
/// 2·reach + 1 values a head, distance −reach first; distances beyond reach take the end's value.
template <class T>
struct DistanceBias {
  const T* values = nullptr;  // (heads, 2·reach + 1); null: no bias
  std::int64_t reach = 0;
};

/// One piece of keys and values with their positions. k, v: (batch, kv_heads, keys, head_dim).
template <class T>
struct KeyBlock {
  TensorView<const T> k;
  TensorView<const T> v;
  Run positions;
};

/// The streaming softmax between calls, for each query row: o = Σ 2^(s·log2 e − maximum)·v, not yet divided
/// by sum = Σ 2^(s·log2 e − maximum). o: (batch, heads, queries, head_dim); maximum, sum: head_dim = 1.
template <class T>
struct AttentionState {
  TensorView<T> o;
  TensorView<T> maximum;
  TensorView<T> sum;

  AttentionState tokens(Interval rows) const {
    return {o.tokens(rows), maximum.tokens(rows), sum.tokens(rows)};
  }
};

/// Query rows and the keys that they take in, in this order. q: (batch, heads, queries, head_dim), where
/// heads is a multiple of the keys' kv_heads: query head h reads kv head h / (heads / kv_heads).
template <class T>
struct QueryBlock {
  TensorView<const T> q;
  Run positions;
  AttentionState<T> state;
  std::vector<KeyBlock<T>> keys;
};

/// Called now and then by the thread that called the kernel: the place to progress messages.
using Poll = std::function<void()>;

inline constexpr std::int64_t kMaxHeadDim = 256;

/// State of a row that has seen no key yet. `state.o` may stay uninitialised.
template <class T>
void begin_attention(const AttentionState<T>& state);

/// Takes the visible keys of every query block into its state; query blocks must not share rows. Runs in the
/// caller's TBB arena. Throws std::invalid_argument if head_dim is not in [1, kMaxHeadDim].
template <class T>
void attend(const Pattern& pattern, const DistanceBias<T>& bias, std::span<const QueryBlock<T>> blocks,
            const Poll& poll = {});

/// Divides state.o by the sums, in place, and writes lse (batch, heads, queries, 1). A row that saw no key
/// gets o = 0 and lse = −∞.
template <class T>
void finish_attention(const AttentionState<T>& state, TensorView<T> lse);

/// All of the above in one call: o (batch, heads, queries, head_dim) and lse of queries over keys.
template <class T>
void attention_forward(const Pattern& pattern, const DistanceBias<T>& bias, TensorView<const T> q,
                       TensorView<const T> k, TensorView<const T> v, TensorView<T> o, TensorView<T> lse);

/// Bytes of scratch that each thread of attend() takes.
template <class T>
std::int64_t attention_scratch_bytes(std::int64_t head_dim);

}  // namespace longseq
