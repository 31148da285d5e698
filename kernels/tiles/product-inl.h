// The register tile that every product of attention is made of: up to kRows rows × 2 vectors of sums, one
// broadcast value a row and 2 vectors a step. With 32 registers 12 rows (24 sums; 24 FMAs for 14 loads), with
// 16 registers 6 (12 sums; 12 FMAs for 8 loads). Two vectors, not four, so that what is streamed again for
// each group of rows (head_dim × 32 floats) stays in the first-level cache with room to spare, up to head_dim
// 256. Where that cache is larger and there are 32 registers, 6 rows × 4 vectors (24 FMAs for 10 loads;
// register_tile() in simd.h), which tells most where neighbours hold the core back (kernels/MEASUREMENTS.md).
// Included once per instruction set.
#if defined(LONGSEQ_PRODUCT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LONGSEQ_PRODUCT_INL_H_
#undef LONGSEQ_PRODUCT_INL_H_
#else
#define LONGSEQ_PRODUCT_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "kernels/positions.h"
#include "kernels/simd.h"
#include "kernels/tiles/dot.h"

HWY_BEFORE_NAMESPACE();
#if LONGSEQ_MAY_DOT
#pragma GCC target("avx512bf16")
#endif
namespace longseq::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr bool kManyRegisters = HWY_TARGET <= HWY_AVX3 || HWY_TARGET == HWY_NEON;
constexpr int kColumns = 2;
constexpr int kWideColumns = 4;
constexpr int kWideRows = 6;
constexpr int kRowsAtOnce = kManyRegisters ? 12 : 6;

template <class A>
using Tag = hn::ScalableTag<A>;
template <class A>
using Vec = hn::Vec<Tag<A>>;

template <class A>
HWY_INLINE std::int64_t lanes_of() {
  return static_cast<std::int64_t>(hn::Lanes(Tag<A>()));
}

/// Elements of operands as the vectors that they are multiplied in.
template <class A>
HWY_INLINE Vec<A> load_elements(const A* at) {
  return hn::LoadU(Tag<A>(), at);
}
template <class A>
HWY_INLINE Vec<A> broadcast_element(A value) {
  return hn::Set(Tag<A>(), value);
}
template <class V>
HWY_INLINE V multiply_elements(V left, V right) {
  return hn::Mul(left, right);
}
template <class V>
HWY_INLINE V multiply_elements(V left, V right, V sum) {
  return hn::MulAdd(left, right, sum);
}
#if LONGSEQ_MAY_DOT
HWY_INLINE Vec<std::uint32_t> load_elements(const detail::Pair* at) {
  return hn::LoadU(Tag<std::uint32_t>(), &at->bits);
}
HWY_INLINE Vec<std::uint32_t> broadcast_element(detail::Pair value) {
  return hn::Set(Tag<std::uint32_t>(), value.bits);
}
HWY_INLINE Vec<float> multiply_elements(Vec<std::uint32_t> left, Vec<std::uint32_t> right, Vec<float> sum) {
  return Vec<float>{_mm512_dpbf16_ps(sum.raw, (__m512bh)left.raw, (__m512bh)right.raw)};
}
HWY_INLINE Vec<float> multiply_elements(Vec<std::uint32_t> left, Vec<std::uint32_t> right) {
  return multiply_elements(left, right, hn::Zero(Tag<float>()));
}
#endif

/// Pairs of two vectors' lanes in bfloat16, rounded to nearest.
HWY_INLINE Vec<std::uint32_t> pairs_of(Vec<float> first, Vec<float> second) {
  const Tag<std::uint32_t> d;
  const auto half = hn::Set(d, 0x8000u);
  const auto low = hn::ShiftRight<16>(hn::Add(hn::BitCast(d, first), half));
  const auto high = hn::And(hn::Add(hn::BitCast(d, second), half), hn::Set(d, 0xffff0000u));
  return hn::Or(low, high);
}

/// The left operand of a product: value n of row r lies at at[r·row + n·step]. Row and Step are std::int64_t
/// or, where the distance is known, an std::integral_constant, which saves the loop a register a row.
template <class E, class Row, class Step>
struct Left {
  const E* HWY_RESTRICT at;
  Row row;
  Step step;
};
template <class E, class Row, class Step>
Left(const E*, Row, Step) -> Left<E, Row, Step>;

template <std::int64_t kValue>
using Constant = std::integral_constant<std::int64_t, kValue>;

/// The right operand: vectors 0 and 1 of step n lie at at[n·step + c·lanes], 2 and 3 beside each other
/// `across` from them. Step: as above.
template <class E, class Step>
struct Right {
  const E* HWY_RESTRICT at;
  Step step;
  std::int64_t across = 0;
};
template <class E, class Step>
Right(const E*, Step, std::int64_t = 0) -> Right<E, Step>;

/// One step of a product: sums[r][c] += left · right[c], where left of row r lies `offset(r)` from its
/// pointer. kStart: sums are set, not added to.
template <bool kStart, int kSpan, int kRows, int kFirst, int kLast, class A, class E, class Row,
          int kPointers, int kWidth>
HWY_INLINE void multiply_step(Vec<A> (&sums)[kRows][kWidth], const E* const (&pointers)[kPointers], Row row,
                              std::int64_t thrice, const E* right, std::int64_t across) {
  const std::int64_t lanes = lanes_of<A>();
  decltype(load_elements(right)) columns[kWidth];
#pragma GCC unroll 4
  for (int c = kFirst; c < kLast; ++c)
    columns[c] = load_elements(right + c / kColumns * across + c % kColumns * lanes);
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    const std::int64_t offset = r % kSpan == 3 ? thrice : r % kSpan * row;
    const auto value = broadcast_element(pointers[r / kSpan][offset]);
#pragma GCC unroll 4
    for (int c = kFirst; c < kLast; ++c) {
      if constexpr (kStart) {
        sums[r][c] = multiply_elements(value, columns[c]);
      } else {
        sums[r][c] = multiply_elements(value, columns[c], sums[r][c]);
      }
    }
  }
}

/// Nothing is to come meanwhile.
struct Nothing {};

/// sums[r][c] = Σ_n left[r][n] · right[n][c], n < count elements, at least one, for columns kFirst <= c <
/// kLast. Meanwhile what is `coming` is asked for, a quarter of a line at each step.
template <int kRows, int kFirst, int kLast, class A, class E, class Row, class Step, class RightStep,
          int kWidth, class Queue = Nothing>
HWY_INLINE void multiply(Vec<A> (&sums)[kRows][kWidth], Left<E, Row, Step> left, Right<E, RightStep> right,
                         std::int64_t count, Queue&& coming = {}) {
  // Rows in fours, each four with a pointer of its own: a distance and thrice it then address any row. Where
  // the distance is a constant, one pointer does.
  constexpr int kSpan = std::is_same_v<Row, std::int64_t> ? 4 : kRows;
  constexpr int kPointers = (kRows + kSpan - 1) / kSpan;
  const E* pointers[kPointers];
#pragma GCC unroll 3
  for (int p = 0; p < kPointers; ++p) pointers[p] = left.at + p * kSpan * left.row;
  const std::int64_t thrice = 3 * left.row;
  multiply_step<true, kSpan, kRows, kFirst, kLast, A>(sums, pointers, left.row, thrice, right.at,
                                                      right.across);
  const auto step = [&]() HWY_ATTR {
#pragma GCC unroll 3
    for (int p = 0; p < kPointers; ++p) pointers[p] += left.step;
    right.at += right.step;
    multiply_step<false, kSpan, kRows, kFirst, kLast, A>(sums, pointers, left.row, thrice, right.at,
                                                         right.across);
  };
  if constexpr (std::is_same_v<Queue, Nothing>) {
#pragma GCC unroll 4
    for (std::int64_t n = 1; n < count; ++n) step();
  } else {
    for (std::int64_t left_over = count - 1; left_over > 0;) {
      auto stretch = coming.next(left_over);
      left_over -= stretch.quarters;
#pragma GCC unroll 4
      while (stretch.quarters > 0) {
        stretch.ask();
        step();
      }
    }
  }
}

/// Which of the two columns of a step of lanes take part; four: both, and as many beside them.
enum class Columns { none, first, second, both, four };

/// The columns of the step that begins at `lane` which lie within [first_lane, last_lane). Bounds are
/// multiples of a lane group, so that a column lies within them or without.
template <class A>
HWY_INLINE Columns columns_within(std::int64_t lane, std::int64_t first_lane, std::int64_t last_lane) {
  const auto within = [=](std::int64_t at) { return at >= first_lane && at < last_lane; };
  const bool first = within(lane), second = within(lane + lanes_of<A>());
  if (first) return second ? Columns::both : Columns::first;
  return second ? Columns::second : Columns::none;
}

/// Whether products of four columns are made where they can be.
HWY_INLINE bool makes_wide_products() {
  return kManyRegisters && register_tile() == RegisterTile::wide;
}

/// Calls Step<rows>::run({from, to}, arguments...) for pieces of [begin, end) that are a whole number of
/// groups of `rows`: kRowsAtOnce, and for what is left 8 (where there are registers), 4, 2 and 1. Four rows
/// are too few chains of sums to fill the multiply ports: twelve and four are taken as eight and eight.
template <template <int> class Step, int kRows = kRowsAtOnce, class... Arguments>
HWY_INLINE void in_groups(std::int64_t begin, std::int64_t end, const Arguments&... arguments) {
  std::int64_t whole = begin + (end - begin) / kRows * kRows;
  if (kRows == 12 && end - whole >= 4 && end - whole < 8 && begin < whole) whole -= kRows;
  if (begin < whole) Step<kRows>::run(Interval{begin, whole}, arguments...);
  if constexpr (kRows > 1) {
    constexpr int kNext = kRows == 12 ? 8 : kRows > 4 ? 4 : kRows / 2;
    if (whole < end) in_groups<Step, kNext>(whole, end, arguments...);
  }
}

}  // namespace longseq::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
