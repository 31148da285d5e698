// Logarithm, sine and cosine in double from +, -, *, / alone, which IEEE 754 rounds the same way everywhere:
// libm's differ in the last bit between processors and versions, and a seeded tensor must not. Sources that
// include this are compiled with -ffp-contract=off (CMakeLists.txt), as a fused multiply-add rounds once
// less.
#pragma once

#include <bit>
#include <cstdint>

namespace longseq {

/// ln(x) for normal x > 0, to about 2 units in the last place. With x = m · 2^e and m in [√½, √2),
/// ln m = 2 artanh((m - 1) / (m + 1)), by its Taylor series.
inline double portable_log(double x) {
  const auto bits = std::bit_cast<std::uint64_t>(x);
  std::int64_t exponent = static_cast<std::int64_t>(bits >> 52) - 1023;
  double m = std::bit_cast<double>((bits & 0x000FFFFFFFFFFFFF) | 0x3FF0000000000000);  // [1, 2)
  if (m > 1.4142135623730951) {
    m *= 0.5;
    ++exponent;
  }
  const double s = (m - 1.0) / (m + 1.0);
  const double s2 = s * s;
  double series = 1.0 / 23;
  for (int k = 21; k >= 1; k -= 2) series = series * s2 + 1.0 / k;
  return static_cast<double>(exponent) * 0.69314718055994530942 + 2.0 * s * series;
}

struct SineCosine {
  double sine = 0;
  double cosine = 0;
};

/// Sine and cosine of (word + ½) · 2π / 2³², by Taylor series within an eighth of a turn of the nearest axis.
inline SineCosine portable_sine_cosine(std::uint32_t word) {
  const std::uint32_t quarter = (word + (1u << 29)) >> 30;
  const auto rest = static_cast<std::int32_t>(word - (quarter << 30));
  const double x = (rest + 0.5) * (6.283185307179586477 / 4294967296.0);
  const double x2 = x * x;
  double sine = 1.0, cosine = 1.0;
  for (int k = 16; k >= 2; k -= 2) sine = 1.0 - sine * (x2 * (1.0 / (k * (k + 1))));
  for (int k = 16; k >= 2; k -= 2) cosine = 1.0 - cosine * (x2 * (1.0 / (k * (k - 1))));
  sine *= x;
  switch (quarter & 3) {
    case 0:
      return {sine, cosine};
    case 1:
      return {cosine, -sine};
    case 2:
      return {-sine, -cosine};
    default:
      return {-cosine, sine};
  }
}

}  // namespace longseq
