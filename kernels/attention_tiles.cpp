// The hot kernel of the forward pass. Queries are the lanes: a tile of 6 keys × 64 queries (AVX-512: 24
// accumulators, 4 query vectors, 1 broadcast key value; 24 FMAs for 10 loads) needs K and V as they lie in
// memory, unpacked, so that a ring step repacks nothing, and the softmax needs no horizontal operation. The
// values' product has the same form with 6 dimensions × 64 queries. With 16 registers (AVX2) a tile is
// 6 × 2 vectors, walked over the same 64 queries.
//
// Bound: the FMA ports. Per key and query vector 2·head_dim FMAs and one exp2 (7 operations on the same
// ports): a ceiling of 95 % at head_dim 64 where additions have ports of their own, 90 % where not. Measured
// on Zen 5: 85 % (kernels/README.md).
#include "kernels/attention_tiles.h"

#include <algorithm>
#include <cmath>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention_tiles.cpp"
#include <hwy/foreach_target.h>
// foreach_target comes first: what follows is compiled once per instruction set.
#include <hwy/highway.h>

#include "kernels/exp2-inl.h"

HWY_BEFORE_NAMESPACE();
namespace longseq::HWY_NAMESPACE {
using longseq::detail::Index;
using longseq::detail::KeyRows;
using longseq::detail::kLog2E;
using longseq::detail::kRowsAtOnce;
using longseq::detail::kTileKeys;
using longseq::detail::kTileRows;
using longseq::detail::QueryTile;
using longseq::detail::TileBias;

// Vectors of queries held at once: what the register file has room for beside 6 rows.
constexpr int kColumns = HWY_TARGET <= HWY_AVX3 ? 4 : 2;

constexpr float kLargeScore = 48.0f;  // log2 e times a score of 33: above it f32 scores cost more than 1e-6
constexpr float kNoWeight = -30.0f;   // an exponent below it is a weight of less than 1e-9

template <class T>
using Lanes = hn::ScalableTag<T>;
template <class T>
using Vec = hn::Vec<Lanes<T>>;

/// Adds Σ_n left[r·left_row + n·left_step] · right[n·kTileRows + lane] to sums[r][column], n < count.
template <int kRows, class T>
HWY_INLINE void multiply(Vec<T> (&sums)[kRows][kColumns], const T* HWY_RESTRICT left, std::int64_t left_row,
                         std::int64_t left_step, const T* HWY_RESTRICT right, std::int64_t count) {
  const Lanes<T> d;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  for (std::int64_t n = 0; n < count; ++n) {
    Vec<T> columns[kColumns];
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; ++c) columns[c] = hn::Load(d, right + c * lanes);
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
      const Vec<T> value = hn::Set(d, left[r * left_row]);
#pragma GCC unroll 4
      for (int c = 0; c < kColumns; ++c) sums[r][c] = hn::MulAdd(value, columns[c], sums[r][c]);
    }
    left += left_step;
    right += kTileRows;
  }
}

/// What to subtract from exponents: the maximum, or 0 for a row that has seen no key yet (−∞ − 0 is fine, −∞
/// − −∞ not).
template <class D, class V = hn::Vec<D>>
HWY_INLINE V base_of(D d, V maximum) {
  return hn::IfThenZeroElse(hn::Eq(maximum, hn::Set(d, -std::numeric_limits<hn::TFromD<D>>::infinity())),
                            maximum);
}

/// The score's vector with −∞ where the query does not see key row `key`.
template <class T>
HWY_INLINE Vec<T> mask_score(const QueryTile<T>& tile, std::int64_t lane, std::int64_t key, Vec<T> score) {
  const hn::ScalableTag<Index<T>> di;
  const auto row = hn::Set(di, static_cast<Index<T>>(key));
  auto visible = hn::Zero(di);
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    const auto before = hn::VecFromMask(di, hn::Lt(row, hn::Load(di, tile.visible_begin[i] + lane)));
    const auto inside = hn::VecFromMask(di, hn::Lt(row, hn::Load(di, tile.visible_end[i] + lane)));
    visible = hn::Or(visible, hn::AndNot(before, inside));
  }
  const Lanes<T> d;
  return hn::IfThenElse(hn::MaskFromVec(hn::BitCast(d, visible)), score,
                        hn::Set(d, -std::numeric_limits<T>::infinity()));
}

/// log2 e times the bias between the tile's queries and key row `key`.
template <class T>
HWY_INLINE Vec<T> distance_bias(const TileBias<T>& bias, std::int64_t lane, std::int64_t key) {
  const Lanes<T> d;
  const hn::ScalableTag<Index<T>> di;
  const auto reach = hn::Set(di, bias.reach);
  auto distance = hn::Sub(hn::Load(di, bias.query_position + lane),
                          hn::Set(di, static_cast<Index<T>>(key * bias.key_stride)));
  distance = hn::Min(hn::Max(distance, hn::Neg(reach)), reach);
  const Vec<T> value = hn::GatherIndex(d, bias.values, hn::Add(distance, reach));
  return hn::Mul(value, hn::Set(d, static_cast<T>(kLog2E)));
}

/// Scores of kRows keys from `key` on; raises block_maximum. Scores are q·k, or with a bias the finished
/// exponents of 2.
template <int kRows, class T>
HWY_NOINLINE void score_rows(const QueryTile<T>& tile, const KeyRows<T>& keys, const TileBias<T>& bias,
                             std::int64_t key, T* HWY_RESTRICT scores, T* HWY_RESTRICT block_maximum) {
  const Lanes<T> d;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  for (std::int64_t lane = 0; lane < tile.rows; lane += kColumns * lanes) {
    Vec<T> sums[kRows][kColumns];
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int c = 0; c < kColumns; ++c) sums[r][c] = hn::Zero(d);
    }
    multiply<kRows, T>(sums, keys.k + key * keys.k_stride, keys.k_stride, 1, tile.queries + lane,
                       tile.head_dim);
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; ++c) {
      Vec<T> maximum = hn::Load(d, block_maximum + lane + c * lanes);
#pragma GCC unroll 6
      for (int r = 0; r < kRows; ++r) {
        Vec<T> score = sums[r][c];
        if (bias.values != nullptr) {
          score =
              hn::MulAdd(score, hn::Set(d, tile.score_scale), distance_bias(bias, lane + c * lanes, key + r));
        }
        if (keys.masked) score = mask_score(tile, lane + c * lanes, key + r, score);
        hn::Store(score, d, scores + (key + r - keys.begin) * kTileRows + lane + c * lanes);
        maximum = hn::Max(maximum, score);
      }
      hn::Store(maximum, d, block_maximum + lane + c * lanes);
    }
  }
}

/// outputs[row] = outputs[row] · decay + Σ_keys weight · v[row], for kRows dimensions from `row` on.
template <int kRows, class T>
HWY_NOINLINE void add_values(const QueryTile<T>& tile, const KeyRows<T>& keys, std::int64_t row,
                             const T* HWY_RESTRICT weights, const T* HWY_RESTRICT decay) {
  const Lanes<T> d;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  for (std::int64_t lane = 0; lane < tile.rows; lane += kColumns * lanes) {
    T* HWY_RESTRICT out = tile.outputs + row * kTileRows + lane;
    Vec<T> sums[kRows][kColumns];
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; ++c) {
      const Vec<T> factor = hn::Load(d, decay + lane + c * lanes);
#pragma GCC unroll 6
      for (int r = 0; r < kRows; ++r)
        sums[r][c] = hn::Mul(factor, hn::Load(d, out + r * kTileRows + c * lanes));
    }
    multiply<kRows, T>(sums, keys.v + keys.begin * keys.v_stride + row, 1, keys.v_stride, weights + lane,
                       keys.end - keys.begin);
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int c = 0; c < kColumns; ++c) hn::Store(sums[r][c], d, out + r * kTileRows + c * lanes);
    }
  }
}

/// Raises the running maximum to the block's, and writes the decay 2^(old maximum − new maximum) of
/// everything summed before. Gives whether some row's maximum is so large that f32 scores cannot tell its
/// weights well enough.
template <class T>
HWY_INLINE bool raise_maximum(const QueryTile<T>& tile, T scale, const T* HWY_RESTRICT block_maximum,
                              T* HWY_RESTRICT decay) {
  const Lanes<T> d;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const Vec<T> nothing = hn::Set(d, -std::numeric_limits<T>::infinity());
  bool large = false;
  for (std::int64_t lane = 0; lane < tile.rows; lane += lanes) {
    const Vec<T> old_maximum = hn::Load(d, tile.maximum + lane);
    const Vec<T> maximum =
        hn::Max(old_maximum, hn::Mul(hn::Load(d, block_maximum + lane), hn::Set(d, scale)));
    hn::Store(maximum, d, tile.maximum + lane);
    hn::Store(exp2_nonpositive(d, hn::Sub(old_maximum, base_of(d, maximum))), d, decay + lane);
    const auto finite = hn::Ne(maximum, nothing);
    large =
        large ||
        !hn::AllFalse(d, hn::And(finite, hn::Gt(hn::Abs(maximum), hn::Set(d, static_cast<T>(kLargeScore)))));
  }
  return large && sizeof(T) == sizeof(float);
}

/// Turns exponents of 2, scale·score − maximum, into weights and adds them to the sum. `subtract` is false
/// where the maximum has been subtracted already.
template <class T>
HWY_NOINLINE void soften(const QueryTile<T>& tile, std::int64_t count, T scale, bool subtract,
                         T* HWY_RESTRICT scores, const T* HWY_RESTRICT decay) {
  const Lanes<T> d;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const Vec<T> scaling = hn::Set(d, scale);
  for (std::int64_t lane = 0; lane < tile.rows; lane += lanes) {
    const Vec<T> base = subtract ? base_of(d, hn::Load(d, tile.maximum + lane)) : hn::Zero(d);
    Vec<T> sum = hn::Mul(hn::Load(d, tile.sum + lane), hn::Load(d, decay + lane));
    Vec<T> even = hn::Zero(d);
    T* HWY_RESTRICT column = scores + lane;
    std::int64_t n = 0;
    for (; n + 4 <= count; n += 4) {
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        T* at = column + (n + i) * kTileRows;
        const Vec<T> weight = exp2_nonpositive(d, hn::MulSub(hn::Load(d, at), scaling, base));
        hn::Store(weight, d, at);
        if (i % 2 == 0) {
          even = hn::Add(even, weight);
        } else {
          sum = hn::Add(sum, weight);
        }
      }
    }
    for (; n < count; ++n) {
      T* at = column + n * kTileRows;
      const Vec<T> weight = exp2_nonpositive(d, hn::MulSub(hn::Load(d, at), scaling, base));
      hn::Store(weight, d, at);
      sum = hn::Add(sum, weight);
    }
    hn::Store(hn::Add(sum, even), d, tile.sum + lane);
  }
}

/// Replaces the scores by exponents less the maximum, scale·score − maximum, those that carry weight
/// recomputed in f64: a score of 1000 in f32 is off by 6e-5, and its weight by as much. Rare, so plain.
HWY_NOINLINE void refine(const QueryTile<float>& tile, const KeyRows<float>& keys,
                         const TileBias<float>& bias, float* HWY_RESTRICT scores) {
  const double exact_scale = kLog2E / std::sqrt(static_cast<double>(tile.head_dim));
  const float scale = bias.values == nullptr ? tile.score_scale : 1.0f;
  for (std::int64_t key = keys.begin; key < keys.end; ++key) {
    float* row = scores + (key - keys.begin) * kTileRows;
    const float* k = keys.k + key * keys.k_stride;
    for (std::int64_t lane = 0; lane < tile.rows; ++lane) {
      const float maximum = std::isinf(tile.maximum[lane]) ? 0.0f : tile.maximum[lane];
      const float rough = row[lane] * scale - maximum;
      row[lane] = rough;
      if (!(rough > kNoWeight)) continue;
      double dot = 0;
      for (std::int64_t d = 0; d < tile.head_dim; ++d) {
        dot += static_cast<double>(tile.queries[d * kTileRows + lane]) * static_cast<double>(k[d]);
      }
      double exponent = dot * exact_scale - static_cast<double>(maximum);
      if (bias.values != nullptr) {
        const std::int64_t distance = std::clamp<std::int64_t>(
            bias.query_position[lane] - key * bias.key_stride, -bias.reach, bias.reach);
        exponent += kLog2E * static_cast<double>(bias.values[bias.reach + distance]);
      }
      row[lane] = static_cast<float>(exponent);
    }
  }
}
HWY_INLINE void refine(const QueryTile<double>&, const KeyRows<double>&, const TileBias<double>&, double*) {}

/// Calls Step<rows>::run(at, ...) over [begin, end) in groups of kRowsAtOnce and a smaller last one.
template <template <int> class Step, int kRows = kRowsAtOnce, class... Arguments>
HWY_INLINE void in_groups(std::int64_t begin, std::int64_t end, const Arguments&... arguments) {
  for (; begin + kRows <= end; begin += kRows) Step<kRows>::run(begin, arguments...);
  if constexpr (kRows > 1) {
    if (begin < end) in_groups<Step, kRows - 1>(begin, end, arguments...);
  }
}

template <int kRows>
struct Score {
  template <class T>
  static HWY_INLINE void run(std::int64_t key, const QueryTile<T>& tile, const KeyRows<T>& keys,
                             const TileBias<T>& bias, T* const& scores, T* const& block_maximum) {
    score_rows<kRows>(tile, keys, bias, key, scores, block_maximum);
  }
};

template <int kRows>
struct AddValues {
  template <class T>
  static HWY_INLINE void run(std::int64_t row, const QueryTile<T>& tile, const KeyRows<T>& keys,
                             const T* const& weights, const T* const& decay) {
    add_values<kRows>(tile, keys, row, weights, decay);
  }
};

template <class T>
HWY_INLINE void attend_rows(const QueryTile<T>& tile, const KeyRows<T>& keys, const TileBias<T>& bias,
                            T* scores) {
  HWY_ALIGN T block_maximum_array[kTileRows];
  HWY_ALIGN T decay_array[kTileRows];
  T* const block_maximum = block_maximum_array;
  const T* const decay = decay_array;
  const T* const weights = scores;
  std::fill_n(block_maximum, kTileRows, -std::numeric_limits<T>::infinity());
  in_groups<Score>(keys.begin, keys.end, tile, keys, bias, scores, block_maximum);
  const T scale = bias.values == nullptr ? tile.score_scale : T{1};
  if (raise_maximum(tile, scale, block_maximum, decay_array)) {
    refine(tile, keys, bias, scores);
    soften(tile, keys.end - keys.begin, T{1}, false, scores, decay);
  } else {
    soften(tile, keys.end - keys.begin, scale, true, scores, decay);
  }
  in_groups<AddValues>(0, tile.head_dim, tile, keys, weights, decay);
}

void attend_rows_f32(const QueryTile<float>& tile, const KeyRows<float>& keys, const TileBias<float>& bias,
                     float* scores) {
  attend_rows(tile, keys, bias, scores);
}
void attend_rows_f64(const QueryTile<double>& tile, const KeyRows<double>& keys, const TileBias<double>& bias,
                     double* scores) {
  attend_rows(tile, keys, bias, scores);
}

}  // namespace longseq::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace longseq {
HWY_EXPORT(attend_rows_f32);
HWY_EXPORT(attend_rows_f64);

namespace detail {

void attend_tile(const QueryTile<float>& tile, const KeyRows<float>& keys, const TileBias<float>& bias,
                 float* scores) {
  HWY_DYNAMIC_DISPATCH(attend_rows_f32)(tile, keys, bias, scores);
}
void attend_tile(const QueryTile<double>& tile, const KeyRows<double>& keys, const TileBias<double>& bias,
                 double* scores) {
  HWY_DYNAMIC_DISPATCH(attend_rows_f64)(tile, keys, bias, scores);
}

}  // namespace detail
}  // namespace longseq
#endif
