#include "kernels/tiles/relative_scores.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "kernels/tiles/forward_tile.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/tiles/relative_scores.cpp"
#include <hwy/foreach_target.h>
// foreach_target comes first: what follows is compiled once per instruction set.
#include <hwy/highway.h>

#include "kernels/tiles/product-inl.h"

HWY_BEFORE_NAMESPACE();
#if LONGSEQ_MAY_DOT
#pragma GCC target("avx512bf16")
#endif
namespace longseq::HWY_NAMESPACE {
using detail::kLaneBlock;

template <int kRows>
struct MultiplyRows {
  template <class A>
  static HWY_NOINLINE void run(Interval range, const A* const& rows, const std::int64_t& row_size,
                               const std::int64_t& head_dim, const A* const& queries,
                               const std::int64_t& width, A* const& products) {
    const Tag<A> d;
    const std::int64_t lanes = lanes_of<A>();
    for (std::int64_t lane = 0; lane < width; lane += kColumns * lanes) {
      for (std::int64_t row = range.begin; row < range.end; row += kRows) {
        Vec<A> sums[kRows][kColumns];
        multiply<kRows, 0, kColumns, A>(
            sums, Left{rows + row * row_size, row_size, Constant<1>()},
            Right{queries + lane / kLaneBlock * head_dim * kLaneBlock + lane % kLaneBlock,
                  Constant<kLaneBlock>()},
            head_dim);
#pragma GCC unroll 12
        for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
          for (int c = 0; c < kColumns; ++c)
            hn::Store(sums[r][c], d, products + (row + r) * width + lane + c * lanes);
        }
      }
    }
  }
};

/// Where lane's value of key 0 lies among the products.
template <class A>
HWY_INLINE hn::Vec<hn::ScalableTag<detail::Index<A>>> shear_index(std::int64_t lane, std::int64_t width) {
  using I = detail::Index<A>;
  const hn::ScalableTag<I> di;
  const auto own = hn::Iota(di, static_cast<I>(lane));
  return hn::Add(
      hn::Mul(hn::Sub(hn::Set(di, static_cast<I>(width - 1)), own), hn::Set(di, static_cast<I>(width))), own);
}

template <class A>
HWY_INLINE void shear_all(const A* HWY_RESTRICT products, std::int64_t keys, std::int64_t width,
                          A* HWY_RESTRICT values) {
  const Tag<A> d;
  for (std::int64_t lane = 0; lane < width; lane += lanes_of<A>()) {
    const auto index = shear_index<A>(lane, width);
    for (std::int64_t n = 0; n < keys; ++n)
      hn::Store(hn::GatherIndex(d, products + n * width, index), d, values + n * width + lane);
  }
}

#define LONGSEQ_DEFINE(A, name)                                                                              \
  void multiply_rows_##name(const A* rows, std::int64_t row_size, std::int64_t count, std::int64_t head_dim, \
                            const A* queries, std::int64_t width, A* products) {                             \
    in_groups<MultiplyRows>(0, count, rows, row_size, head_dim, queries, width, products);                   \
  }                                                                                                          \
  void shear_##name(const A* products, std::int64_t keys, std::int64_t width, A* values) {                   \
    shear_all(products, keys, width, values);                                                                \
  }
LONGSEQ_DEFINE(float, f32)
LONGSEQ_DEFINE(double, f64)
#undef LONGSEQ_DEFINE

}  // namespace longseq::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace longseq {
HWY_EXPORT(multiply_rows_f32);
HWY_EXPORT(multiply_rows_f64);
HWY_EXPORT(shear_f32);
HWY_EXPORT(shear_f64);

namespace detail {

void multiply_rows(const float* rows, std::int64_t row_size, std::int64_t count, std::int64_t head_dim,
                   const float* queries, std::int64_t width, float* products) {
  HWY_DYNAMIC_DISPATCH(multiply_rows_f32)(rows, row_size, count, head_dim, queries, width, products);
}
void multiply_rows(const double* rows, std::int64_t row_size, std::int64_t count, std::int64_t head_dim,
                   const double* queries, std::int64_t width, double* products) {
  HWY_DYNAMIC_DISPATCH(multiply_rows_f64)(rows, row_size, count, head_dim, queries, width, products);
}
void shear(const float* products, std::int64_t keys, std::int64_t width, float* values) {
  HWY_DYNAMIC_DISPATCH(shear_f32)(products, keys, width, values);
}
void shear(const double* products, std::int64_t keys, std::int64_t width, double* values) {
  HWY_DYNAMIC_DISPATCH(shear_f64)(products, keys, width, values);
}

template <class A>
void gather_relative_rows(const RelativeKeys<A>& relative, std::int64_t head, const DistanceRows& distances,
                          Interval range, A* rows, std::int64_t width) {
  for (std::int64_t i = range.begin; i < range.end; ++i, rows += width) {
    std::copy_n(relative.r.row(0, head, relative.row_of(distances.at(i))), relative.r.shape.head_dim, rows);
    std::fill(rows + relative.r.shape.head_dim, rows + width, A{0});
  }
}

template <class A>
RelativeScores<A>::RelativeScores(std::int64_t head_dim, A* memory, A* rows)
    : head_dim_(head_dim), queries_(memory), products_(queries_ + head_dim * kForwardLanes), rows_(rows) {}

template <class A>
std::int64_t RelativeScores<A>::elements(std::int64_t head_dim) {
  return (head_dim + kForwardKeys + kForwardLanes) * kForwardLanes;
}

template <class A>
std::int64_t RelativeScores<A>::row_elements(std::int64_t head_dim) {
  return (kForwardKeys + kForwardLanes) * head_dim;
}

void expect_equal_spacing(Run queries, Run keys) {
  if (queries.count <= 1 || keys.count <= 1 || queries.stride == keys.stride) return;
  throw std::invalid_argument(
      fmt::format("queries are {} positions apart, keys {}; expected the same, for relative keys",
                  queries.stride, keys.stride));
}

DistanceRows distances_to(Run block_positions, std::int64_t first_token, std::int64_t width, Run keys) {
  const std::int64_t stride = keys.count > 1 ? keys.stride : block_positions.stride;
  return {block_positions.start + (first_token + width - 1) * stride - keys.start, stride};
}

template <class A>
void RelativeScores<A>::begin_block(Run block_positions, const FoldedRows& queries, Run keys) {
  head_ = queries.head(0);
  to_first_key_ = distances_to(block_positions, queries.token(0), kForwardLanes, keys);
  held_ = {0, 0};
}

template <class A>
void RelativeScores<A>::fill(const RelativeKeys<A>& relative, Interval keys, A* scores) {
  constexpr std::int64_t kShared = kForwardLanes - 1;
  std::int64_t held_rows = 0;
  if (!held_.empty() && held_.end == keys.begin) {
    std::copy_n(products_ + held_.size() * kForwardLanes, kShared * kForwardLanes, products_);
    held_rows = kShared;
  }
  const Interval missing{held_rows, keys.size() + kShared};
  const DistanceRows distances{to_first_key_.at(keys.begin), to_first_key_.stride};
  gather_relative_rows(relative, head_, distances, missing, rows_, head_dim_);
  multiply_rows(rows_, head_dim_, missing.size(), head_dim_, queries_, kForwardLanes,
                products_ + held_rows * kForwardLanes);
  shear(products_, keys.size(), kForwardLanes, scores);
  held_ = keys;
}

template void gather_relative_rows<float>(const RelativeKeys<float>&, std::int64_t, const DistanceRows&,
                                          Interval, float*, std::int64_t);
template void gather_relative_rows<double>(const RelativeKeys<double>&, std::int64_t, const DistanceRows&,
                                           Interval, double*, std::int64_t);
template class RelativeScores<float>;
template class RelativeScores<double>;

}  // namespace detail
}  // namespace longseq
#endif
