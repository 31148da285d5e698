#include "kernels/simd.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>

namespace longseq {
std::vector<std::string> simd_targets() {
  std::vector<std::string> names;
  for (const std::int64_t target : hwy::SupportedAndGeneratedTargets())
    names.emplace_back(hwy::TargetName(target));
  return names;
}

std::string simd_target() {
  return simd_targets().front();
}

void force_simd_target(std::string_view name) {
  hwy::SetSupportedTargetsForTest(0);  // back to what the processor has
  if (name != "auto") {
    const auto usable = hwy::SupportedAndGeneratedTargets();
    const auto wanted = std::find_if(usable.begin(), usable.end(),
                                     [&](std::int64_t target) { return name == hwy::TargetName(target); });
    if (wanted == usable.end()) {
      throw std::invalid_argument(
          fmt::format("simd is '{}'; expected auto or one of {}, which this machine can run", name,
                      fmt::join(simd_targets(), ", ")));
    }
    hwy::SetSupportedTargetsForTest(*wanted);
  }
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

}  // namespace longseq
