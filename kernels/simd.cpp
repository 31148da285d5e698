#include "kernels/simd.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <hwy/highway.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <stdexcept>

#include "kernels/peak.h"
#include "kernels/tiles/matrix.h"

namespace longseq {
namespace {

struct Choice {
  std::int64_t target;
  PairProducts products;

  std::string name() const {
    constexpr std::string_view kSuffixes[] = {"", "_BF16", "_AMX"};
    return std::string(hwy::TargetName(target)).append(kSuffixes[static_cast<std::size_t>(products)]);
  }
};

bool has(const Choice& choice) {
  switch (choice.products) {
    case PairProducts::none:
      return true;
    case PairProducts::dot:
#if HWY_ARCH_X86 && HWY_COMPILER_GCC >= 1000 && !HWY_COMPILER_CLANG
      return choice.target == HWY_AVX3 && __builtin_cpu_supports("avx512bf16");
#else
      return false;
#endif
    case PairProducts::matrix:  // beside which dot's instructions round weights
      return has({choice.target, PairProducts::dot}) && detail::matrix_unit_usable();
  }
  return false;
}

/// Asked of the processor once: some have the instructions and are slower with them than with f32.
PairProducts fastest_products() {
  static const PairProducts fastest = [] {
    // The best of many slices of some tenths of a millisecond: others may be at work on this core, but not in
    // all of them.
    constexpr double kSlice = 1e-6, kWorthIt = 1.3;
    double fma = 0, dot = 0, matrix = 0;
    for (int trial = 0; trial < 40; ++trial) {
      fma = std::max(fma, measure_fma_rate<float>(kSlice));
      if (has({HWY_AVX3, PairProducts::dot}))
        dot = std::max(dot, measure_pair_rate(PairProducts::dot, kSlice));
      if (has({HWY_AVX3, PairProducts::matrix}))
        matrix = std::max(matrix, measure_pair_rate(PairProducts::matrix, kSlice));
    }
    if (matrix > kWorthIt * std::max(dot, fma)) return PairProducts::matrix;
    return dot > kWorthIt * fma ? PairProducts::dot : PairProducts::none;
  }();
  return fastest;
}

std::vector<Choice> choices() {
  std::vector<Choice> all;
  for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
    for (const PairProducts products : {PairProducts::matrix, PairProducts::dot, PairProducts::none})
      if (has({target, products})) all.push_back({target, products});
  }
  return all;
}

std::atomic<bool> chosen{false};
std::atomic<PairProducts> products_in_use{PairProducts::none};

RegisterTile fitting_tile() {
#ifdef _SC_LEVEL1_DCACHE_SIZE
  constexpr long kRoomy = 48 * 1024;
  if (sysconf(_SC_LEVEL1_DCACHE_SIZE) >= kRoomy) return RegisterTile::wide;
#endif
  return RegisterTile::tall;
}

std::atomic<RegisterTile>& tile_in_use() {
  static std::atomic<RegisterTile> tile{fitting_tile()};
  return tile;
}

}  // namespace

std::vector<std::string> simd_targets() {
  std::vector<std::string> names;
  for (const Choice& choice : choices()) names.push_back(choice.name());
  return names;
}

std::string simd_target() {
  return Choice{hwy::SupportedAndGeneratedTargets().front(), pair_products()}.name();
}

void force_simd_target(std::string_view name) {
  hwy::SetSupportedTargetsForTest(0);  // back to what the processor has
  chosen = false;
  if (name != "auto") {
    const std::vector<Choice> usable = choices();
    const auto wanted = std::find_if(usable.begin(), usable.end(),
                                     [&](const Choice& choice) { return choice.name() == name; });
    if (wanted == usable.end()) {
      throw std::invalid_argument(
          fmt::format("simd is '{}'; expected auto or one of {}, which this machine can run", name,
                      fmt::join(simd_targets(), ", ")));
    }
    hwy::SetSupportedTargetsForTest(wanted->target);
    products_in_use = wanted->products;
    chosen = true;
  }
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

PairProducts pair_products() {
  if (!chosen) {
    const bool best = hwy::SupportedAndGeneratedTargets().front() == HWY_AVX3;
    products_in_use = best ? fastest_products() : PairProducts::none;
    chosen = true;
  }
  return products_in_use;
}

RegisterTile register_tile() {
  return tile_in_use();
}

void force_register_tile(RegisterTile tile) {
  tile_in_use() = tile;
}

}  // namespace longseq
