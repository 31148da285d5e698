// The processor's own product of bfloat16 pairs: a0·b0 + a1·b1 added to an f32 sum, in the time of one f32
// multiply-add where it is done well (Zen 4 and later). Not for use outside kernels/.
#pragma once

#include <cstdint>

namespace longseq::detail {

/// Two neighbours in bfloat16, the first in the lower half.
struct Pair {
  std::uint32_t bits;
};

/// Values that an element of a product's operands stands for, and what their sums are kept in.
template <class E>
struct Element {
  using Sum = E;
  static constexpr std::int64_t kValues = 1;
};
template <>
struct Element<Pair> {
  using Sum = float;
  static constexpr std::int64_t kValues = 2;
};

}  // namespace longseq::detail

// Whether the instruction set that is being compiled for may have it. Where so, the functions that use it are
// compiled with it, after HWY_BEFORE_NAMESPACE:
//   #if LONGSEQ_MAY_DOT
//   #pragma GCC target("avx512bf16")
//   #endif
#define LONGSEQ_MAY_DOT (HWY_TARGET == HWY_AVX3 && HWY_COMPILER_GCC >= 1000 && !HWY_COMPILER_CLANG)
