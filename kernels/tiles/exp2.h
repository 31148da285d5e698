// The numbers by which 2^x is split into a whole power and a rest (exp2-inl.h). Not for use outside kernels/.
#pragma once

namespace longseq::detail {

template <class T>
struct Exp2;
template <>
struct Exp2<float> {
  static constexpr float kRound = 12582912.0f + 127;  // 1.5·2^23: adding it rounds to a whole number
  static constexpr float kLowest = -127.25f;          // rounded, the exponent of 0
  static constexpr float kMostWhole = 2097152.0f;     // kRound ± it lies where whole numbers lie 1 apart
};
template <>
struct Exp2<double> {
  static constexpr double kRound = 6755399441055744.0 + 1023;  // 1.5·2^52
  static constexpr double kLowest = -1023.25;
  static constexpr double kMostWhole = 1125899906842624.0;
};

}  // namespace longseq::detail
