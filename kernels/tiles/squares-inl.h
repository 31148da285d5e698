// Rows of any storage type as vectors, and as lanes: squares of them, transposed. Included once per
// instruction set.
#if defined(LONGSEQ_SQUARES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LONGSEQ_SQUARES_INL_H_
#undef LONGSEQ_SQUARES_INL_H_
#else
#define LONGSEQ_SQUARES_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>
#include <type_traits>

#include "kernels/bfloat16.h"
#include "kernels/tiles/dot.h"

HWY_BEFORE_NAMESPACE();
namespace longseq::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using detail::Pair;

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

// Rows become lanes in squares of 16 bytes a side, as many at once as a vector has blocks of 16 bytes: block
// b of vector i is the square's side of rows[b · side + i], from dimension `dim` on. Where a vector has four
// blocks, two neighbouring squares of a row are loaded, or stored, at once.
template <class D>
constexpr std::int64_t square() {
  return HWY_TARGET == HWY_SCALAR ? 1 : 16 / static_cast<std::int64_t>(sizeof(hn::TFromD<D>));
}
template <class D>
constexpr std::int64_t blocks() {
  return static_cast<std::int64_t>(hn::MaxLanes(D())) / square<D>();
}
template <class D>
constexpr int squares_at_once() {
  return blocks<D>() == 4 ? 2 : 1;
}

/// Squares of neighbouring dimensions.
template <class D, int kCount>
using Squares = hn::Vec<D>[kCount][square<D>()];

#if HWY_TARGET == HWY_SCALAR
template <class D, class T>
HWY_INLINE void load_squares(D d, const T* const* rows, std::int64_t dim, Squares<D, 1>& v) {
  v[0][0] = load(d, rows[0] + dim);
}
template <class D, class T>
HWY_INLINE void store_squares(D d, Squares<D, 1>& v, T* const* rows, std::int64_t dim) {
  store(d, v[0][0], rows[0] + dim);
}
template <class D>
HWY_INLINE void transpose(D /*d*/, hn::Vec<D> (&/*v*/)[1]) {}
#else
template <class D, class T>
HWY_INLINE hn::Vec<D> load_blocks(D d, const T* const* rows, std::int64_t dim) {
  if constexpr (blocks<D>() == 1) {
    return load(d, rows[0] + dim);
  } else {
    const hn::Half<D> half;
    constexpr std::int64_t kUpper = blocks<hn::Half<D>>() * square<D>();
    return hn::Combine(d, load_blocks(half, rows + kUpper, dim), load_blocks(half, rows, dim));
  }
}
template <class D, class T>
HWY_INLINE void store_blocks(D d, hn::Vec<D> value, T* const* rows, std::int64_t dim) {
  if constexpr (blocks<D>() == 1) {
    store(d, value, rows[0] + dim);
  } else {
    const hn::Half<D> half;
    constexpr std::int64_t kUpper = blocks<hn::Half<D>>() * square<D>();
    store_blocks(half, hn::LowerHalf(half, value), rows, dim);
    store_blocks(half, hn::UpperHalf(half, value), rows + kUpper, dim);
  }
}
template <class D, class T>
HWY_INLINE void load_squares(D d, const T* const* rows, std::int64_t dim, Squares<D, 1>& v) {
  for (std::int64_t i = 0; i < square<D>(); ++i) v[0][i] = load_blocks(d, rows + i, dim);
}
template <class D, class T>
HWY_INLINE void store_squares(D d, Squares<D, 1>& v, T* const* rows, std::int64_t dim) {
  for (std::int64_t i = 0; i < square<D>(); ++i) store_blocks(d, v[0][i], rows + i, dim);
}

/// Exchanges the odd blocks of the first with the even ones of the second.
template <class D, class V = hn::Vec<D>>
HWY_INLINE void exchange_blocks(D /*d*/, V& first, V& second) {
  const V odd = hn::OddEvenBlocks(second, hn::SwapAdjacentBlocks(first));
  first = hn::OddEvenBlocks(hn::SwapAdjacentBlocks(second), first);
  second = odd;
}
template <class D, class T>
HWY_INLINE void load_squares(D d, const T* const* rows, std::int64_t dim, Squares<D, 2>& v) {
  const hn::Half<D> half;
  constexpr std::int64_t kSquare = square<D>();
  for (std::int64_t i = 0; i < kSquare; ++i) {
    for (std::int64_t n = 0; n < 2; ++n) {
      const T* const* own = rows + i + n * kSquare;
      v[n][i] = hn::Combine(d, load(half, own[2 * kSquare] + dim), load(half, own[0] + dim));
    }
    exchange_blocks(d, v[0][i], v[1][i]);
  }
}
template <class D, class T>
HWY_INLINE void store_squares(D d, Squares<D, 2>& v, T* const* rows, std::int64_t dim) {
  const hn::Half<D> half;
  constexpr std::int64_t kSquare = square<D>();
  for (std::int64_t i = 0; i < kSquare; ++i) {
    exchange_blocks(d, v[0][i], v[1][i]);
    for (std::int64_t n = 0; n < 2; ++n) {
      T* const* own = rows + i + n * kSquare;
      store(half, hn::LowerHalf(half, v[n][i]), own[0] + dim);
      store(half, hn::UpperHalf(half, v[n][i]), own[2 * kSquare] + dim);
    }
  }
}

/// Transposes the squares that the blocks of the vectors form, each on its own.
template <class D>
HWY_INLINE void transpose(D d, hn::Vec<D> (&v)[square<D>()]) {
  const auto low = hn::InterleaveLower(d, v[0], v[1]), high = hn::InterleaveUpper(d, v[0], v[1]);
  if constexpr (square<D>() == 2) {
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

/// lanes points to the lane of rows[0], in dimension 0.
template <int kSquares, class D, class T, class A>
HWY_INLINE void squares_to_lanes(D d, const T* const* rows, std::int64_t dim, A* HWY_RESTRICT lanes,
                                 std::int64_t width) {
  Squares<D, kSquares> v;
  load_squares(d, rows, dim, v);
  for (auto& own : v) {
    transpose(d, own);
    for (std::int64_t i = 0; i < square<D>(); ++i, ++dim)
      hn::StoreU(own[i], d, reinterpret_cast<hn::TFromD<D>*>(lanes + dim * width));
  }
}
template <int kSquares, class D, class T, class A>
HWY_INLINE void squares_to_rows(D d, const A* HWY_RESTRICT lanes, std::int64_t width, hn::Vec<D> factor,
                                T* const* rows, std::int64_t dim) {
  Squares<D, kSquares> v;
  const A* from = lanes + dim * width;
  for (auto& own : v) {
    for (std::int64_t i = 0; i < square<D>(); ++i, from += width)
      own[i] = hn::Mul(factor, hn::LoadU(d, from));
    transpose(d, own);
  }
  store_squares(d, v, rows, dim);
}

}  // namespace longseq::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
