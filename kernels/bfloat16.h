// bfloat16: the upper half of an f32. A storage type: kernels compute in f32 (Accumulator<BFloat16>).
#pragma once

#include <bit>
#include <cstdint>

namespace longseq {

struct BFloat16 {
  std::uint16_t bits = 0;

  constexpr BFloat16() = default;
  /// Rounds to nearest, ties to even; a NaN stays one.
  constexpr explicit BFloat16(float value) {
    const auto word = std::bit_cast<std::uint32_t>(value);
    const bool is_nan = (word & 0x7fffffffu) > 0x7f800000u;
    bits = static_cast<std::uint16_t>(is_nan ? (word >> 16 | 0x40u)
                                             : (word + 0x7fffu + (word >> 16 & 1u)) >> 16);
  }
  constexpr explicit operator float() const {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
  }
  constexpr explicit operator double() const { return static_cast<double>(static_cast<float>(*this)); }
};

template <class T>
struct AccumulatorOf {
  using type = T;
};
template <>
struct AccumulatorOf<BFloat16> {
  using type = float;
};
/// What sums of products of T are kept in.
template <class T>
using Accumulator = typename AccumulatorOf<T>::type;

}  // namespace longseq
