#include "kernels/tiles/row_copy.h"

#include <algorithm>
#include <array>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/tiles/row_copy.cpp"
#include <hwy/foreach_target.h>
// foreach_target comes first: what follows is compiled once per instruction set.
#include <hwy/highway.h>

#include "kernels/tiles/squares-inl.h"

HWY_BEFORE_NAMESPACE();
namespace longseq::HWY_NAMESPACE {
// Rows that are asked for before they are needed: they come from far away.
constexpr std::int64_t kAhead = 16;

template <class T>
HWY_INLINE void fetch(const T* row, std::int64_t head_dim) {
  constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(T));
  for (std::int64_t dim = 0; dim < head_dim; dim += kLine) __builtin_prefetch(row + dim, 0, 3);
}

template <class T>
HWY_INLINE void to_lanes(const T* const* rows, std::int64_t count, std::int64_t head_dim,
                         Accumulator<T>* HWY_RESTRICT lanes, std::int64_t width) {
  using A = Accumulator<T>;
  const hn::ScalableTag<LaneOf<A>> d;
  using D = decltype(d);
  constexpr int kSquares = squares_at_once<D>();
  constexpr std::int64_t kAtOnce = blocks<D>() * square<D>();
  std::int64_t t = 0;
  for (; t < std::min(kAhead, count); ++t) fetch(rows[t], head_dim);
  for (t = 0; t + kAtOnce <= count; t += kAtOnce) {
    for (std::int64_t r = t + kAhead; r < std::min(t + kAhead + kAtOnce, count); ++r)
      fetch(rows[r], head_dim);
    std::int64_t dim = 0;
    for (; dim + kSquares * square<D>() <= head_dim; dim += kSquares * square<D>())
      squares_to_lanes<kSquares>(d, rows + t, dim, lanes + t, width);
    if constexpr (kSquares > 1) {
      for (; dim + square<D>() <= head_dim; dim += square<D>())
        squares_to_lanes<1>(d, rows + t, dim, lanes + t, width);
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
  using D = decltype(d);
  constexpr int kSquares = squares_at_once<D>();
  constexpr std::int64_t kAtOnce = blocks<D>() * square<D>();
  const auto factor_of = [factors](std::int64_t t) { return factors != nullptr ? factors[t] : A{1}; };
  std::int64_t t = 0;
  for (; t + kAtOnce <= count; t += kAtOnce) {
    const auto factor = factors != nullptr ? hn::LoadU(d, factors + t) : hn::Set(d, A{1});
    std::int64_t dim = 0;
    for (; dim + kSquares * square<D>() <= head_dim; dim += kSquares * square<D>())
      squares_to_rows<kSquares>(d, lanes + t, width, factor, rows + t, dim);
    if constexpr (kSquares > 1) {
      for (; dim + square<D>() <= head_dim; dim += square<D>())
        squares_to_rows<1>(d, lanes + t, width, factor, rows + t, dim);
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

/// row_of(t): where out's row t lies.
template <class A, class RowOf>
HWY_INLINE void give(const A* HWY_RESTRICT rows, std::int64_t stride, A factor, std::int64_t count,
                     std::int64_t head_dim, bool add, const RowOf& row_of) {
  const hn::ScalableTag<A> d;
  const std::int64_t step = static_cast<std::int64_t>(hn::Lanes(d));
  const auto factors = hn::Set(d, factor);
  for (std::int64_t t = 0; t < std::min(kAhead, count); ++t) fetch(row_of(t), head_dim);
  for (std::int64_t t = 0; t < count; ++t, rows += stride) {
    if (t + kAhead < count) fetch(row_of(t + kAhead), head_dim);
    A* HWY_RESTRICT own = row_of(t);
    std::int64_t dim = 0;
    for (; dim + step <= head_dim; dim += step) {
      const auto old = add ? hn::LoadU(d, own + dim) : hn::Zero(d);
      hn::StoreU(hn::MulAdd(factors, hn::LoadU(d, rows + dim), old), d, own + dim);
    }
    for (; dim < head_dim; ++dim) own[dim] = factor * rows[dim] + (add ? own[dim] : A{0});
  }
}
#define LONGSEQ_DEFINE(A, name)                                                                             \
  void give_##name(const A* rows, std::int64_t stride, A factor, std::int64_t count, std::int64_t head_dim, \
                   bool add, A* const* out) {                                                               \
    give(rows, stride, factor, count, head_dim, add, [out](std::int64_t t) { return out[t]; });             \
  }                                                                                                         \
  void give_strided_##name(const A* rows, std::int64_t stride, A factor, std::int64_t count,                \
                           std::int64_t head_dim, bool add, A* out, std::int64_t out_stride) {              \
    give(rows, stride, factor, count, head_dim, add, [=](std::int64_t t) { return out + t * out_stride; }); \
  }
LONGSEQ_DEFINE(float, f32)
LONGSEQ_DEFINE(double, f64)
#undef LONGSEQ_DEFINE

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

#define LONGSEQ_DISPATCH(A, name)                                                                           \
  HWY_EXPORT(give_##name);                                                                                  \
  HWY_EXPORT(give_strided_##name);                                                                          \
  namespace detail {                                                                                        \
  void give_rows(const A* rows, std::int64_t stride, A factor, std::int64_t count, std::int64_t head_dim,   \
                 bool add, A* const* out) {                                                                 \
    HWY_DYNAMIC_DISPATCH(give_##name)(rows, stride, factor, count, head_dim, add, out);                     \
  }                                                                                                         \
  void give_rows(const A* rows, std::int64_t stride, A factor, std::int64_t count, std::int64_t head_dim,   \
                 bool add, A* out, std::int64_t out_stride) {                                               \
    HWY_DYNAMIC_DISPATCH(give_strided_##name)(rows, stride, factor, count, head_dim, add, out, out_stride); \
  }                                                                                                         \
  }
LONGSEQ_DISPATCH(float, f32)
LONGSEQ_DISPATCH(double, f64)
#undef LONGSEQ_DISPATCH

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
