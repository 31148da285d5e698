// Forward attention on one node, for every pattern, by one engine over tiles.
//
//   s_ij = c · (q_i + u_h)·k_j + c · (q_i + v_h)·r_h(i − j) + b_h(i − j),  o_i = Σ_j softmax_j(s_ij) v_j,
//   lse_i = log Σ_j exp(s_ij),  c = 1/√head_dim
//
// over the visible keys j (maths.md, sections 1 and 5; u, v, r and b are position terms, absent unless asked
// for).
// Keys come block by block: the state of the streaming softmax (Milakov & Gimelshein 2018; Dao et al. 2022,
// algorithm 1) lies between calls in the caller's memory, so that a step of a ring is one call. A call needs
// its inputs, its state and a scratch per thread, in f32 of less than 1 MiB; there is no buffer of seq_len²
// anywhere. Results are the same, bit for bit, for any number of threads.
//
// T is the type that tensors are stored in: float, double, or BFloat16, which is computed in float.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "kernels/bfloat16.h"
#include "kernels/pattern.h"
#include "kernels/tensor.h"

namespace longseq {

/// The bias of position terms that depend on the distance i − j alone (ALiBi, learned tables): one row of
/// 2·reach + 1 values a head, distance −reach first; distances beyond reach take the end's value.
template <class A>
struct DistanceBias {
  const A* values = nullptr;  // (heads, 2·reach + 1); null: no bias
  std::int64_t reach = 0;

  std::int64_t row_size() const { return 2 * reach + 1; }
};

/// Transformer-XL's relative positions (Dai et al. 2019, section 3.3): a second product, of q_i + v with
/// r_h(i − j) = W_R R_{i−j}, beside that of q_i + u with k_j. `r` is (1, heads, distances, head_dim), its row
/// n for the distance first_distance + n; distances beyond its ends take the end's row.
template <class A>
struct RelativeKeys {
  TensorView<const A> r;
  std::int64_t first_distance = 0;
  const A* content_bias = nullptr;   // u, (heads, head_dim), dense; null: none
  const A* position_bias = nullptr;  // v

  bool present() const { return r.data != nullptr; }
  /// The row of r for a distance.
  std::int64_t row_of(std::int64_t distance) const {
    return std::clamp<std::int64_t>(distance - first_distance, 0, r.shape.tokens - 1);
  }
};

/// What scores are made of beside c · q_i·k_j.
template <class A>
struct PositionTerms {
  DistanceBias<A> bias{};
  RelativeKeys<A> relative{};

  /// Those of some of the heads.
  PositionTerms of_heads(Interval heads) const {
    PositionTerms terms = *this;
    if (bias.values != nullptr) terms.bias.values += heads.begin * bias.row_size();
    if (!relative.present()) return terms;
    const std::int64_t head_dim = relative.r.shape.head_dim;
    terms.relative.r = relative.r.heads(heads);
    for (const A** own : {&terms.relative.content_bias, &terms.relative.position_bias})
      if (*own != nullptr) *own += heads.begin * head_dim;
    return terms;
  }
};

/// One piece of keys and values with their positions. k, v: (batch, kv_heads, keys, head_dim).
template <class T>
struct KeyBlock {
  TensorView<const T> k;
  TensorView<const T> v;
  Run positions;
};

/// The streaming softmax between calls, for each query row: o = Σ 2^(s·log2 e − maximum)·v, not yet divided
/// by sum = Σ 2^(s·log2 e − maximum), where `maximum` is the largest s·log2 e so far or lags it a little. o:
/// (batch, heads, queries, head_dim); maximum, sum: head_dim = 1.
template <class A>
struct AttentionState {
  TensorView<A> o;
  TensorView<A> maximum;
  TensorView<A> sum;

  bool present() const { return sum.data != nullptr; }
  AttentionState tokens(Interval rows) const {
    return {o.tokens(rows), maximum.tokens(rows), sum.tokens(rows)};
  }
};

/// o: (batch, heads, queries, head_dim); lse: head_dim = 1. A row that saw no key has o = 0 and lse = −∞.
template <class T>
struct AttentionResult {
  TensorView<T> o;
  TensorView<Accumulator<T>> lse;

  bool wanted() const { return o.data != nullptr; }
};

/// Query rows and the keys that they take in, in this order. q: (batch, heads, queries, head_dim), where
/// heads is a multiple of the keys' kv_heads: query head h reads kv head h / (heads / kv_heads).
template <class T>
struct QueryBlock {
  TensorView<const T> q;
  Run positions;
  AttentionState<Accumulator<T>> state;  // none: the rows have seen no key yet, and there is a result
  std::vector<KeyBlock<T>> keys;
  AttentionResult<T> result{};  // where there is one, these are the last keys: it is written, not the state
};

/// The tensors of a whole sequence: q (batch, heads, queries, head_dim); k, v (batch, kv_heads, keys,
/// head_dim).
template <class T>
struct AttentionInputs {
  TensorView<const T> q;
  TensorView<const T> k;
  TensorView<const T> v;
};

/// Called now and then by the thread that called the kernel: the place to progress messages.
using Poll = std::function<void()>;

inline constexpr std::int64_t kMaxHeadDim = 256;

/// State of a row that has seen no key yet. `state.o` may stay uninitialised.
template <class A>
void begin_attention(const AttentionState<A>& state);

/// Takes the visible keys of every query block into its state or result; query blocks must not share rows.
/// Runs in the caller's TBB arena. Throws std::invalid_argument if head_dim is not in [1, kMaxHeadDim], if
/// blocks differ in it, in heads or in sequences, or if one has neither state nor result.
template <class T>
void attend(const Pattern& pattern, const PositionTerms<Accumulator<T>>& terms,
            std::span<const QueryBlock<T>> blocks, const Poll& poll = {});

/// The result of a state: outputs are divided by the sums (o may be state.o itself).
template <class T>
void finish_attention(const AttentionState<Accumulator<T>>& state, TensorView<T> o,
                      TensorView<Accumulator<T>> lse);

/// All of the above in one call: queries 0..queries−1 over keys 0..keys−1.
template <class T>
void attention_forward(const Pattern& pattern, const PositionTerms<Accumulator<T>>& terms,
                       const AttentionInputs<T>& inputs, TensorView<T> o, TensorView<Accumulator<T>> lse);

/// Bytes of scratch that each thread of attend() takes, at most.
template <class T>
std::int64_t attention_scratch_bytes(std::int64_t head_dim, bool relative = false);

}  // namespace longseq
