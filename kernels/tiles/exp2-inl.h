// 2^x, in the range that a streaming softmax needs. Included once per instruction set.
#if defined(LONGSEQ_EXP2_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LONGSEQ_EXP2_INL_H_
#undef LONGSEQ_EXP2_INL_H_
#else
#define LONGSEQ_EXP2_INL_H_
#endif

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace longseq::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// 2^r on [−1/2, 1/2], near-minimax, highest power first. Relative errors: 9e-8 and 3.2e-18. The last is
// exactly 1: decays are whole powers of 2, and a decay of nothing must be 1, or sums drift with the length of
// the sequence.
template <class T>
struct Exp2Terms;
template <>
struct Exp2Terms<float> {
  static constexpr float kCoefficients[] = {1.32647273e-3f, 9.67151299e-3f, 5.55073358e-2f,
                                            2.40222424e-1f, 6.93147004e-1f, 1.0f};
  static constexpr float kLowest = -127.0f;           // 2^kLowest counts as 0
  static constexpr float kRound = 12582912.0f + 127;  // 1.5·2^23: adding it rounds to a whole number
  static constexpr int kMantissaBits = 23;
};
template <>
struct Exp2Terms<double> {
  static constexpr double kCoefficients[] = {
      4.455817908336064493e-10, 7.0741942972885210056e-9, 1.0178057087733941105e-7, 1.3215432535912376166e-6,
      1.5252733841556772589e-5, 1.5403530463724354e-4,    1.3333558146406470697e-3, 9.6181291075872566681e-3,
      5.5504108664821627039e-2, 2.4022650695910159567e-1, 6.9314718055994530925e-1, 1.0};
  static constexpr double kLowest = -1023.0;
  static constexpr double kRound = 6755399441055744.0 + 1023;  // 1.5·2^52
  static constexpr int kMantissaBits = 52;
};

/// 2^(score·scale − whole − part), for a whole number `whole` and a result below 2^100; −∞ gives 0, as does
/// anything below the smallest normal number; a NaN stays one. `offset` is whole + part, rounded. The
/// exponent is rounded only after its whole part has been taken off, so that weights are as exact far from
/// the maximum as near it.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V exp2_weight(D d, V score, V scale, V offset, V whole, V part) {
  using T = hn::TFromD<D>;
  using Terms = Exp2Terms<T>;
  const hn::RebindToSigned<D> di;
  const auto at_least = [d](T bound, V x) HWY_ATTR {
    // x86's maximum gives its second operand where one is a NaN; others' may not.
    const V low = hn::Set(d, bound);
    return HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR ? hn::Max(low, x)
                                                    : hn::IfThenElse(hn::Lt(x, low), low, x);
  };
  const V exponent = at_least(Terms::kLowest, hn::MulSub(score, scale, offset));
  const V shifted = hn::Add(exponent, hn::Set(d, Terms::kRound));  // low bits: the biased exponent
  const V rounded = hn::Sub(shifted, hn::Set(d, Terms::kRound));
  const V r = at_least(T{-1}, hn::Sub(hn::MulSub(score, scale, hn::Add(whole, rounded)), part));
  V p = hn::Set(d, Terms::kCoefficients[0]);
  constexpr int kTerms = sizeof(Terms::kCoefficients) / sizeof(T);
#pragma GCC unroll 16
  for (int i = 1; i < kTerms; ++i) p = hn::MulAdd(p, r, hn::Set(d, Terms::kCoefficients[i]));
  const V power = hn::BitCast(d, hn::ShiftLeft<Terms::kMantissaBits>(hn::BitCast(di, shifted)));
  return hn::Mul(p, power);
}

/// 2^(score·scale − whole).
template <class D, class V = hn::Vec<D>>
HWY_INLINE V exp2_weight(D d, V score, V scale, V whole) {
  return exp2_weight(d, score, scale, whole, whole, hn::Zero(d));
}

}  // namespace longseq::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
