#include "kernels/tiles/row_copy.h"

#include <algorithm>
#include <array>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/tiles/row_copy.cpp"
#include <hwy/foreach_target.h>
// foreach_target comes first: what follows is compiled once per instruction set.
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace longseq::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using detail::Pair;

constexpr std::int64_t kAhead =
    16;  // rows that are asked for before they are needed: they come from far away

template <class T>
HWY_INLINE void fetch(const T* row, std::int64_t head_dim) {
  constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(T));
  for (std::int64_t dim = 0; dim < head_dim; dim += kLine) __builtin_prefetch(row + dim, 0, 3);
}

template <class D, class T>
HWY_INLINE hn::Vec<D> load(D d, const T* at) {
  return hn::LoadU(d, at);
}
template <class D>
HWY_INLINE hn::Vec<D> load(D d, const Pair* at) {
  return hn::LoadU(d, &at->bits);
}
template <class D>
HWY_INLINE hn::Vec<D> load(D d, const BFloat16* at) {
  const hn::Rebind<std::uint16_t, D> narrow;
  const hn::RebindToUnsigned<D> wide;
  const auto bits = hn::LoadU(narrow, reinterpret_cast<const std::uint16_t*>(at));
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(wide, bits)));
}

template <class D, class T>
HWY_INLINE void store(D d, hn::Vec<D> value, T* at) {
  hn::StoreU(value, d, at);
}
template <class D>
HWY_INLINE void store(D /*d*/, hn::Vec<D> value, BFloat16* at) {  // rounds as BFloat16's constructor
  const hn::RebindToUnsigned<D> wide;
  const hn::RebindToSigned<D> wide_signed;
  const hn::Rebind<std::uint16_t, D> narrow;
  const auto bits = hn::BitCast(wide, value);
  const auto even = hn::And(hn::ShiftRight<16>(bits), hn::Set(wide, 1u));
  const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(even, hn::Set(wide, 0x7fffu))));
  const auto quiet = hn::Or(hn::ShiftRight<16>(bits), hn::Set(wide, 0x40u));
  const auto is_nan = hn::RebindMask(wide, hn::IsNaN(value));
  const auto upper = hn::BitCast(wide_signed, hn::IfThenElse(is_nan, quiet, rounded));
  hn::StoreU(hn::DemoteTo(narrow, upper), narrow, reinterpret_cast<std::uint16_t*>(at));
}

/// What vectors of A are made of.
template <class A>
using LaneOf = std::conditional_t<std::is_same_v<A, Pair>, std::uint32_t, A>;

// Rows become lanes in squares of 16 bytes a side, as many at once as a vector has blocks of 16 bytes. Block
// b of a vector is the square's width of rows[b · width], from dimension `dim` on.
#if HWY_TARGET == HWY_SCALAR
template <class A>
constexpr std::int64_t square() {
  return 1;
}
template <class D>
constexpr std::int64_t blocks() {
  return 1;
}
template <class D, class T>
HWY_INLINE hn::Vec<D> load_blocks(D d, const T* const* rows, std::int64_t dim) {
  return load(d, rows[0] + dim);
}
template <class D, class T>
HWY_INLINE void store_blocks(D d, hn::Vec<D> value, T* const* rows, std::int64_t dim) {
  store(d, value, rows[0] + dim);
}
template <class D>
HWY_INLINE void transpose(D /*d*/, hn::Vec<D> (&/*v*/)[1]) {}
#else
template <class A>
constexpr std::int64_t square() {
  return 16 / static_cast<std::int64_t>(sizeof(A));
}
template <class D>
constexpr std::int64_t blocks() {
  return static_cast<std::int64_t>(hn::MaxLanes(D())) / square<hn::TFromD<D>>();
}
template <class D, class T>
HWY_INLINE hn::Vec<D> load_blocks(D d, const T* const* rows, std::int64_t dim) {
  if constexpr (blocks<D>() == 1) {
    return load(d, rows[0] + dim);
  } else {
    const hn::Half<D> half;
    constexpr std::int64_t kUpper = blocks<hn::Half<D>>() * square<hn::TFromD<D>>();
    return hn::Combine(d, load_blocks(half, rows + kUpper, dim), load_blocks(half, rows, dim));
  }
}
template <class D, class T>
HWY_INLINE void store_blocks(D d, hn::Vec<D> value, T* const* rows, std::int64_t dim) {
  if constexpr (blocks<D>() == 1) {
    store(d, value, rows[0] + dim);
  } else {
    const hn::Half<D> half;
    constexpr std::int64_t kUpper = blocks<hn::Half<D>>() * square<hn::TFromD<D>>();
    store_blocks(half, hn::LowerHalf(half, value), rows, dim);
    store_blocks(half, hn::UpperHalf(half, value), rows + kUpper, dim);
  }
}
/// Transposes the squares that the blocks of the vectors form, each on its own.
template <class D>
HWY_INLINE void transpose(D d, hn::Vec<D> (&v)[square<hn::TFromD<D>>()]) {
  const auto low = hn::InterleaveLower(d, v[0], v[1]), high = hn::InterleaveUpper(d, v[0], v[1]);
  if constexpr (square<hn::TFromD<D>>() == 2) {
    v[0] = low;
    v[1] = high;
  } else {
    const hn::Repartition<double, D> wide;
    const auto low2 = hn::BitCast(wide, hn::InterleaveLower(d, v[2], v[3]));
    const auto high2 = hn::BitCast(wide, hn::InterleaveUpper(d, v[2], v[3]));
    v[0] = hn::BitCast(d, hn::InterleaveLower(wide, hn::BitCast(wide, low), low2));
    v[1] = hn::BitCast(d, hn::InterleaveUpper(wide, hn::BitCast(wide, low), low2));
    v[2] = hn::BitCast(d, hn::InterleaveLower(wide, hn::BitCast(wide, high), high2));
    v[3] = hn::BitCast(d, hn::InterleaveUpper(wide, hn::BitCast(wide, high), high2));
  }
}
#endif

template <class T>
HWY_INLINE void to_lanes(const T* const* rows, std::int64_t count, std::int64_t head_dim,
                         Accumulator<T>* HWY_RESTRICT lanes, std::int64_t width) {
  using A = Accumulator<T>;
  const hn::ScalableTag<LaneOf<A>> d;
  constexpr std::int64_t kSquare = square<A>();
  constexpr std::int64_t kAtOnce = blocks<decltype(d)>() * kSquare;
  std::int64_t t = 0;
  for (; t < std::min(kAhead, count); ++t) fetch(rows[t], head_dim);
  for (t = 0; t + kAtOnce <= count; t += kAtOnce) {
    for (std::int64_t r = t + kAhead; r < std::min(t + kAhead + kAtOnce, count); ++r)
      fetch(rows[r], head_dim);
    std::int64_t dim = 0;
    for (; dim + kSquare <= head_dim; dim += kSquare) {
      hn::Vec<decltype(d)> v[kSquare];
      for (std::int64_t i = 0; i < kSquare; ++i) v[i] = load_blocks(d, rows + t + i, dim);
      transpose(d, v);
      for (std::int64_t i = 0; i < kSquare; ++i)
        hn::StoreU(v[i], d, reinterpret_cast<LaneOf<A>*>(lanes + (dim + i) * width + t));
    }
    for (; dim < head_dim; ++dim) {
      for (std::int64_t r = 0; r < kAtOnce; ++r)
        lanes[dim * width + t + r] = static_cast<A>(rows[t + r][dim]);
    }
  }
  for (; t < count; ++t) {
    for (std::int64_t dim = 0; dim < head_dim; ++dim) lanes[dim * width + t] = static_cast<A>(rows[t][dim]);
  }
  if (count == width) return;
  for (std::int64_t dim = 0; dim < head_dim; ++dim) {
    std::fill(lanes + dim * width + count, lanes + (dim + 1) * width, A{});
  }
}

template <class T>
HWY_INLINE void to_rows(const Accumulator<T>* HWY_RESTRICT lanes, std::int64_t width, std::int64_t count,
                        std::int64_t head_dim, const Accumulator<T>* HWY_RESTRICT factors, T* const* rows) {
  using A = Accumulator<T>;
  const hn::ScalableTag<A> d;
  constexpr std::int64_t kSquare = square<A>();
  constexpr std::int64_t kAtOnce = blocks<decltype(d)>() * kSquare;
  const auto factor_of = [factors](std::int64_t t) { return factors != nullptr ? factors[t] : A{1}; };
  std::int64_t t = 0;
  for (; t + kAtOnce <= count; t += kAtOnce) {
    const auto factor = factors != nullptr ? hn::LoadU(d, factors + t) : hn::Set(d, A{1});
    std::int64_t dim = 0;
    for (; dim + kSquare <= head_dim; dim += kSquare) {
      hn::Vec<decltype(d)> v[kSquare];
      for (std::int64_t i = 0; i < kSquare; ++i)
        v[i] = hn::Mul(factor, hn::LoadU(d, lanes + (dim + i) * width + t));
      transpose(d, v);
      for (std::int64_t i = 0; i < kSquare; ++i) store_blocks(d, v[i], rows + t + i, dim);
    }
    for (; dim < head_dim; ++dim) {
      for (std::int64_t r = 0; r < kAtOnce; ++r)
        rows[t + r][dim] = static_cast<T>(factor_of(t + r) * lanes[dim * width + t + r]);
    }
  }
  for (; t < count; ++t) {
    for (std::int64_t dim = 0; dim < head_dim; ++dim)
      rows[t][dim] = static_cast<T>(factor_of(t) * lanes[dim * width + t]);
  }
}

template <class T>
HWY_INLINE void pack(const T* rows, std::int64_t stride, std::int64_t count, std::int64_t head_dim,
                     Accumulator<T>* HWY_RESTRICT packed, std::int64_t width) {
  using A = Accumulator<T>;
  const hn::ScalableTag<LaneOf<A>> d;
  const std::int64_t step = static_cast<std::int64_t>(hn::Lanes(d));
  for (std::int64_t t = 0; t < count; ++t, rows += stride, packed += width) {
    std::int64_t dim = 0;
    for (; dim + step <= head_dim; dim += step)
      hn::StoreU(load(d, rows + dim), d, reinterpret_cast<LaneOf<A>*>(packed + dim));
    for (; dim < head_dim; ++dim) packed[dim] = static_cast<A>(rows[dim]);
    if (width > head_dim) std::fill(packed + head_dim, packed + width, A{});
  }
}

/// second: null if the row is alone.
void pair_two(const BFloat16* first_row, const BFloat16* second_row, std::int64_t head_dim, Pair* pairs,
              std::int64_t width) {
  const hn::ScalableTag<std::uint32_t> d;
  const hn::Rebind<std::uint16_t, decltype(d)> narrow;
  const std::int64_t step = static_cast<std::int64_t>(hn::Lanes(d));
  const bool alone = second_row == nullptr;
  const auto* first = reinterpret_cast<const std::uint16_t*>(first_row);
  const auto* second = reinterpret_cast<const std::uint16_t*>(alone ? first_row : second_row);
  std::int64_t dim = 0;
  for (; dim + step <= head_dim; dim += step) {
    const auto low = hn::PromoteTo(d, hn::LoadU(narrow, first + dim));
    const auto high = hn::ShiftLeft<16>(hn::PromoteTo(d, hn::LoadU(narrow, second + dim)));
    hn::StoreU(alone ? low : hn::Or(low, high), d, &pairs[dim].bits);
  }
  for (; dim < head_dim; ++dim)
    pairs[dim].bits = first[dim] | (alone ? 0u : static_cast<std::uint32_t>(second[dim]) << 16);
  if (width > head_dim) std::fill(pairs + head_dim, pairs + width, Pair{});
}

template <class A>
HWY_INLINE void give(const A* HWY_RESTRICT rows, std::int64_t stride, A factor, std::int64_t count,
                     std::int64_t head_dim, bool add, A* const* out) {
  const hn::ScalableTag<A> d;
  const std::int64_t step = static_cast<std::int64_t>(hn::Lanes(d));
  const auto factors = hn::Set(d, factor);
  for (std::int64_t t = 0; t < std::min(kAhead, count); ++t) fetch(out[t], head_dim);
  for (std::int64_t t = 0; t < count; ++t, rows += stride) {
    if (t + kAhead < count) fetch(out[t + kAhead], head_dim);
    A* HWY_RESTRICT own = out[t];
    std::int64_t dim = 0;
    for (; dim + step <= head_dim; dim += step) {
      const auto old = add ? hn::LoadU(d, own + dim) : hn::Zero(d);
      hn::StoreU(hn::MulAdd(factors, hn::LoadU(d, rows + dim), old), d, own + dim);
    }
    for (; dim < head_dim; ++dim) own[dim] = factor * rows[dim] + (add ? own[dim] : A{0});
  }
}

void give_f32(const float* rows, std::int64_t stride, float factor, std::int64_t count, std::int64_t head_dim,
              bool add, float* const* out) {
  give(rows, stride, factor, count, head_dim, add, out);
}
void give_f64(const double* rows, std::int64_t stride, double factor, std::int64_t count,
              std::int64_t head_dim, bool add, double* const* out) {
  give(rows, stride, factor, count, head_dim, add, out);
}

void to_lanes_pairs(const Pair* const* rows, std::int64_t count, std::int64_t head_dim, Pair* lanes,
                    std::int64_t width) {
  to_lanes(rows, count, head_dim, lanes, width);
}
void pack_pairs(const Pair* rows, std::int64_t stride, std::int64_t count, std::int64_t head_dim,
                Pair* packed, std::int64_t width) {
  pack(rows, stride, count, head_dim, packed, width);
}

#define LONGSEQ_DEFINE(T, name)                                                                   \
  void to_lanes_##name(const T* const* rows, std::int64_t count, std::int64_t head_dim,           \
                       Accumulator<T>* lanes, std::int64_t width) {                               \
    to_lanes(rows, count, head_dim, lanes, width);                                                \
  }                                                                                               \
  void to_rows_##name(const Accumulator<T>* lanes, std::int64_t width, std::int64_t count,        \
                      std::int64_t head_dim, const Accumulator<T>* factors, T* const* rows) {     \
    to_rows(lanes, width, count, head_dim, factors, rows);                                        \
  }                                                                                               \
  void pack_##name(const T* rows, std::int64_t stride, std::int64_t count, std::int64_t head_dim, \
                   Accumulator<T>* packed, std::int64_t width) {                                  \
    pack(rows, stride, count, head_dim, packed, width);                                           \
  }
LONGSEQ_DEFINE(float, f32)
LONGSEQ_DEFINE(double, f64)
LONGSEQ_DEFINE(BFloat16, bf16)
#undef LONGSEQ_DEFINE

}  // namespace longseq::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace longseq {

HWY_EXPORT(give_f32);
HWY_EXPORT(give_f64);
namespace detail {
void give_rows(const float* rows, std::int64_t stride, float factor, std::int64_t count,
               std::int64_t head_dim, bool add, float* const* out) {
  HWY_DYNAMIC_DISPATCH(give_f32)(rows, stride, factor, count, head_dim, add, out);
}
void give_rows(const double* rows, std::int64_t stride, double factor, std::int64_t count,
               std::int64_t head_dim, bool add, double* const* out) {
  HWY_DYNAMIC_DISPATCH(give_f64)(rows, stride, factor, count, head_dim, add, out);
}
}  // namespace detail

HWY_EXPORT(pair_two);
HWY_EXPORT(to_lanes_pairs);
HWY_EXPORT(pack_pairs);
namespace detail {
void pair_rows(const BFloat16* const* rows, std::int64_t count, std::int64_t head_dim, Pair* pairs,
               std::int64_t width) {
  for (std::int64_t n = 0; n < count; n += 2, pairs += width)
    HWY_DYNAMIC_DISPATCH(pair_two)(rows[n], n + 1 < count ? rows[n + 1] : nullptr, head_dim, pairs, width);
}
void pair_rows(const BFloat16* first, std::int64_t stride, std::int64_t count, std::int64_t head_dim,
               Pair* pairs, std::int64_t width) {
  for (std::int64_t n = 0; n < count; n += 2, first += 2 * stride, pairs += width)
    HWY_DYNAMIC_DISPATCH(pair_two)(first, n + 1 < count ? first + stride : nullptr, head_dim, pairs, width);
}
template <>
void rows_to_lanes<Pair>(const Pair* const* rows, std::int64_t count, std::int64_t head_dim, Pair* lanes,
                         std::int64_t width) {
  HWY_DYNAMIC_DISPATCH(to_lanes_pairs)(rows, count, head_dim, lanes, width);
}
template <>
void pack_rows<Pair>(const Pair* rows, std::int64_t stride, std::int64_t count, std::int64_t head_dim,
                     Pair* packed, std::int64_t width) {
  HWY_DYNAMIC_DISPATCH(pack_pairs)(rows, stride, count, head_dim, packed, width);
}
void transpose_pairs(const BFloat16* first, std::int64_t stride, std::int64_t count, std::int64_t head_dim,
                     Pair* between, Pair* pairs, std::int64_t width) {
  pair_rows(first, stride, count, head_dim, between, head_dim);
  std::array<const Pair*, kMostTransposed / 2> rows;
  const std::int64_t half = (count + 1) / 2;
  for (std::int64_t n = 0; n < half; ++n) rows[static_cast<std::size_t>(n)] = between + n * head_dim;
  rows_to_lanes<Pair>(rows.data(), half, head_dim, pairs, width);
}

}  // namespace detail

#define LONGSEQ_DISPATCH(T, name)                                                                  \
  HWY_EXPORT(to_lanes_##name);                                                                     \
  HWY_EXPORT(to_rows_##name);                                                                      \
  HWY_EXPORT(pack_##name);                                                                         \
  namespace detail {                                                                               \
  template <>                                                                                      \
  void rows_to_lanes<T>(const T* const* rows, std::int64_t count, std::int64_t head_dim,           \
                        Accumulator<T>* lanes, std::int64_t width) {                               \
    HWY_DYNAMIC_DISPATCH(to_lanes_##name)(rows, count, head_dim, lanes, width);                    \
  }                                                                                                \
  template <>                                                                                      \
  void lanes_to_rows<T>(const Accumulator<T>* lanes, std::int64_t width, std::int64_t count,       \
                        std::int64_t head_dim, const Accumulator<T>* factors, T* const* rows) {    \
    HWY_DYNAMIC_DISPATCH(to_rows_##name)(lanes, width, count, head_dim, factors, rows);            \
  }                                                                                                \
  template <>                                                                                      \
  void pack_rows<T>(const T* rows, std::int64_t stride, std::int64_t count, std::int64_t head_dim, \
                    Accumulator<T>* packed, std::int64_t width) {                                  \
    HWY_DYNAMIC_DISPATCH(pack_##name)(rows, stride, count, head_dim, packed, width);               \
  }                                                                                                \
  }
LONGSEQ_DISPATCH(float, f32)
LONGSEQ_DISPATCH(double, f64)
LONGSEQ_DISPATCH(BFloat16, bf16)
#undef LONGSEQ_DISPATCH

}  // namespace longseq
#endif
