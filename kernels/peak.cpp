#include "kernels/peak.h"

#include <algorithm>
#include <chrono>

#include "kernels/tensor.h"
#include "kernels/tiles/matrix.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/peak.cpp"
#include <hwy/foreach_target.h>
// foreach_target comes first: what follows is compiled once per instruction set.
#include <hwy/highway.h>

#include "kernels/tiles/dot.h"

HWY_BEFORE_NAMESPACE();
#if LONGSEQ_MAY_DOT
#pragma GCC target("avx512bf16")
#endif
namespace longseq::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr int kChains = HWY_TARGET <= HWY_AVX3 ? 20 : 12;  // more than latency × ports, fewer than registers

/// FLOPs done by `rounds` rounds of kChains vector FMAs.
template <class T>
double multiply_add(std::int64_t rounds) {
  const hn::ScalableTag<T> d;
  const auto lanes = hn::Lanes(d);
  volatile T opaque = static_cast<T>(0.999);
  const auto factor = hn::Set(d, opaque);
  hn::Vec<decltype(d)> sums[kChains];
#pragma GCC unroll 20
  for (int c = 0; c < kChains; ++c) sums[c] = hn::Set(d, static_cast<T>(c) * opaque);
  for (std::int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 20
    for (int c = 0; c < kChains; ++c) sums[c] = hn::MulAdd(sums[c], factor, factor);
  }
  auto total = sums[0];
#pragma GCC unroll 20
  for (int c = 1; c < kChains; ++c) total = hn::Add(total, sums[c]);
  volatile T sink = hn::GetLane(total);
  static_cast<void>(sink);
  return 2.0 * static_cast<double>(rounds) * kChains * static_cast<double>(lanes);
}

/// The same of kChains products of bfloat16 pairs.
double dot_pairs(std::int64_t rounds) {
#if LONGSEQ_MAY_DOT
  const hn::ScalableTag<float> d;
  volatile float opaque = 0.999f;
  const auto pairs = hn::Set(d, opaque);
  hn::Vec<decltype(d)> sums[kChains];
#pragma GCC unroll 20
  for (int c = 0; c < kChains; ++c) sums[c] = hn::Set(d, static_cast<float>(c) * opaque);
  for (std::int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 20
    for (int c = 0; c < kChains; ++c)
      sums[c].raw = _mm512_dpbf16_ps(sums[c].raw, (__m512bh)pairs.raw, (__m512bh)pairs.raw);
  }
  auto total = sums[0];
#pragma GCC unroll 20
  for (int c = 1; c < kChains; ++c) total = hn::Add(total, sums[c]);
  volatile float sink = hn::GetLane(total);
  static_cast<void>(sink);
  return 4.0 * static_cast<double>(rounds) * kChains * static_cast<double>(hn::Lanes(d));
#else
  static_cast<void>(rounds);
  return 0;
#endif
}

double multiply_add_f32(std::int64_t rounds) {
  return multiply_add<float>(rounds);
}
double multiply_add_f64(std::int64_t rounds) {
  return multiply_add<double>(rounds);
}

}  // namespace longseq::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace longseq {
HWY_EXPORT(multiply_add_f32);
HWY_EXPORT(multiply_add_f64);
HWY_EXPORT(dot_pairs);

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double multiply_add(float, std::int64_t rounds) {
  return HWY_DYNAMIC_DISPATCH(multiply_add_f32)(rounds);
}
double multiply_add(double, std::int64_t rounds) {
  return HWY_DYNAMIC_DISPATCH(multiply_add_f64)(rounds);
}

}  // namespace

/// FLOP/s of work(rounds), which gives the FLOPs it did.
template <class Work>
double rate_of(const Work& work, double seconds) {
  constexpr std::int64_t kRounds = 20'000;  // some tens of microseconds
  work(kRounds);
  double flops = 0;
  const Clock::time_point start = Clock::now();
  do {
    flops += work(kRounds);
  } while (seconds_since(start) < seconds);
  return flops / seconds_since(start);
}

template <class T>
double measure_fma_rate(double seconds) {
  return rate_of([](std::int64_t rounds) { return multiply_add(T{}, rounds); }, seconds);
}

double measure_pair_rate(PairProducts products, double seconds) {
  switch (products) {
    case PairProducts::none:
      return measure_fma_rate<float>(seconds);
    case PairProducts::dot:
      return rate_of([](std::int64_t rounds) { return HWY_DYNAMIC_DISPATCH(dot_pairs)(rounds); }, seconds);
    case PairProducts::matrix:
      return rate_of(detail::multiply_in_registers, seconds);
  }
  return 0;
}

double measure_triad_rate(std::int64_t elements, double seconds) {
  Tensor<float> a({1, 1, 1, elements}), b(a.shape()), c(a.shape());
  std::fill_n(a.data(), elements, 0.0f);
  std::fill_n(b.data(), elements, 1.0f);
  std::fill_n(c.data(), elements, 2.0f);
  double best = 0;
  const Clock::time_point start = Clock::now();
  for (int pass = 0; pass < 2 || seconds_since(start) < seconds; ++pass) {
    const Clock::time_point begin = Clock::now();
    const float scalar = static_cast<float>(pass);
    float* out = a.data();
    const float* first = b.data();
    const float* second = c.data();
    for (std::int64_t i = 0; i < elements; ++i) out[i] = first[i] + scalar * second[i];
    best = std::max(best, 12.0 * static_cast<double>(elements) / seconds_since(begin));
  }
  return best;
}

template double measure_fma_rate<float>(double);
template double measure_fma_rate<double>(double);

}  // namespace longseq
#endif
