#include "kernels/simd.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <hwy/highway.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <stdexcept>

#include "kernels/peak.h"

namespace longseq {
namespace {

constexpr std::string_view kPairs = "_BF16";

std::string name_of(std::int64_t target, bool pairs) {
  return std::string(hwy::TargetName(target)).append(pairs ? kPairs : "");
}

bool has_dot(std::int64_t target) {
#if HWY_ARCH_X86 && HWY_COMPILER_GCC >= 1000 && !HWY_COMPILER_CLANG
  return target == HWY_AVX3 && __builtin_cpu_supports("avx512bf16");
#else
  return target < 0;
#endif
}

/// Asked of the processor once: some have the instruction and are slower with it than with f32.
bool dot_is_fast() {
  static const bool fast = [] {
    // The best of many slices of 0.1 ms each: others may be at work on this core, but not in all of them.
    constexpr double kSlice = 1e-6, kWorthIt = 1.3;
    double dot = 0, fma = 0;
    for (int trial = 0; trial < 40; ++trial) {
      dot = std::max(dot, measure_dot_rate(kSlice));
      fma = std::max(fma, measure_fma_rate<float>(kSlice));
    }
    return dot > kWorthIt * fma;
  }();
  return fast;
}

struct Choice {
  std::int64_t target;
  bool pairs;
};

std::vector<Choice> choices() {
  std::vector<Choice> all;
  for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
    if (has_dot(target)) all.push_back({target, true});
    all.push_back({target, false});
  }
  return all;
}

enum class Pairs { not_asked, used, unused };
std::atomic<Pairs> pairs{Pairs::not_asked};

}  // namespace

std::vector<std::string> simd_targets() {
  std::vector<std::string> names;
  for (const Choice& choice : choices()) names.push_back(name_of(choice.target, choice.pairs));
  return names;
}

std::string simd_target() {
  return name_of(hwy::SupportedAndGeneratedTargets().front(), dot_in_use());
}

void force_simd_target(std::string_view name) {
  hwy::SetSupportedTargetsForTest(0);  // back to what the processor has
  pairs = Pairs::not_asked;
  if (name != "auto") {
    const std::vector<Choice> usable = choices();
    const auto wanted = std::find_if(usable.begin(), usable.end(), [&](const Choice& choice) {
      return name == name_of(choice.target, choice.pairs);
    });
    if (wanted == usable.end()) {
      throw std::invalid_argument(
          fmt::format("simd is '{}'; expected auto or one of {}, which this machine can run", name,
                      fmt::join(simd_targets(), ", ")));
    }
    hwy::SetSupportedTargetsForTest(wanted->target);
    pairs = wanted->pairs ? Pairs::used : Pairs::unused;
  }
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

bool dot_in_use() {
  if (pairs == Pairs::not_asked) {
    const bool use = has_dot(hwy::SupportedAndGeneratedTargets().front()) && dot_is_fast();
    pairs = use ? Pairs::used : Pairs::unused;
  }
  return pairs == Pairs::used;
}

}  // namespace longseq
