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

/// The numbers by which 2^x is split into a whole power and a rest, and the terms of 2^r on [−1/2, 1/2],
/// near-minimax, highest power first. Relative errors: 9e-8 and 3.2e-18. The last is exactly 1: decays are
/// whole powers of 2, and a decay of nothing must be 1, or sums drift with the length of the sequence.
template <class T>
struct Exp2;
template <>
struct Exp2<float> {
  static constexpr float kRound = 12582912.0f + 127;  // 1.5·2^23: adding it rounds to a whole number
  static constexpr float kLowest = -127.25f;          // rounded, the exponent of 0
  static constexpr float kMostWhole = 2097152.0f;     // kRound ± it lies where whole numbers lie 1 apart
  static constexpr float kCoefficients[] = {1.32647273e-3f, 9.67151299e-3f, 5.55073358e-2f,
                                            2.40222424e-1f, 6.93147004e-1f, 1.0f};
  static constexpr int kMantissaBits = 23;
};
template <>
struct Exp2<double> {
  static constexpr double kRound = 6755399441055744.0 + 1023;  // 1.5·2^52
  static constexpr double kLowest = -1023.25;
  static constexpr double kMostWhole = 1125899906842624.0;
  static constexpr double kCoefficients[] = {
      4.455817908336064493e-10, 7.0741942972885210056e-9, 1.0178057087733941105e-7, 1.3215432535912376166e-6,
      1.5252733841556772589e-5, 1.5403530463724354e-4,    1.3333558146406470697e-3, 9.6181291075872566681e-3,
      5.5504108664821627039e-2, 2.4022650695910159567e-1, 6.9314718055994530925e-1, 1.0};
  static constexpr int kMantissaBits = 52;
};

/// A whole number to take off exponents, as exp2_weight wants it: of at most Exp2<T>::kMostWhole.
template <class V>
struct TakenOff {
  V lowest;  // the score from which on 2^(score·scale − whole) counts as 0
  V shift;   // Exp2<T>::kRound − whole
};
template <class D, class V = hn::Vec<D>>
HWY_INLINE TakenOff<V> taken_off(D d, V whole, hn::TFromD<D> scale) {
  using T = hn::TFromD<D>;
  return {hn::Mul(hn::Add(whole, hn::Set(d, Exp2<T>::kLowest)), hn::Set(d, T{1} / scale)),
          hn::Sub(hn::Set(d, Exp2<T>::kRound), whole)};
}

/// The terms of the polynomial, all times a factor between 1 and 2: the power comes out times it, at no cost.
template <class D>
struct Powers {
  static constexpr int kTerms =
      sizeof(Exp2<hn::TFromD<D>>::kCoefficients) / sizeof(Exp2<hn::TFromD<D>>::kCoefficients[0]);
  hn::Vec<D> terms[kTerms];
};
template <class D>
HWY_INLINE Powers<D> powers(D d) {
  Powers<D> p;
#pragma GCC unroll 16
  for (int i = 0; i < Powers<D>::kTerms; ++i) p.terms[i] = hn::Set(d, Exp2<hn::TFromD<D>>::kCoefficients[i]);
  return p;
}
template <class D>
HWY_INLINE Powers<D> powers(D d, hn::Vec<D> factor) {
  Powers<D> p = powers(d);
#pragma GCC unroll 16
  for (int i = 0; i < Powers<D>::kTerms; ++i) p.terms[i] = hn::Mul(p.terms[i], factor);
  return p;
}

/// 2^(score·scale − whole) times the powers' factor, for a result below 2^100; −∞ gives 0, as does anything
/// below the smallest normal number; a NaN stays one. The exponent is rounded only after its whole part has
/// been taken off, so that weights are as exact far from the maximum as near it. 11 operations in f32.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V exp2_weight(D d, V score, V scale, const TakenOff<V>& off, const Powers<D>& powers) {
  const hn::RebindToSigned<D> di;
  // x86's maximum gives its second operand where one is a NaN; others' may not.
  score = HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR
              ? hn::Max(off.lowest, score)
              : hn::IfThenElse(hn::Lt(score, off.lowest), off.lowest, score);
  const V shifted = hn::MulAdd(score, scale, off.shift);  // low bits: the result's biased exponent
  const V r = hn::MulSub(score, scale, hn::Sub(shifted, off.shift));
  V p = powers.terms[0];
#pragma GCC unroll 16
  for (int i = 1; i < Powers<D>::kTerms; ++i) p = hn::MulAdd(p, r, powers.terms[i]);
  const V power = hn::BitCast(d, hn::ShiftLeft<Exp2<hn::TFromD<D>>::kMantissaBits>(hn::BitCast(di, shifted)));
  return hn::Mul(p, power);
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE V exp2_weight(D d, V score, V scale, const TakenOff<V>& off) {
  return exp2_weight(d, score, scale, off, powers(d));
}

/// 2^exponent, as above.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V exp2_weight(D d, V exponent) {
  using T = hn::TFromD<D>;
  return exp2_weight(d, exponent, hn::Set(d, T{1}),
                     {hn::Set(d, Exp2<T>::kLowest), hn::Set(d, Exp2<T>::kRound)});
}

}  // namespace longseq::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
