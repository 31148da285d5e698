#include "suite/verdict.h"

#include <fmt/format.h>

namespace longseq {

bool holds(const Verdict& verdict) {
  return verdict.valid && verdict.converged && verdict.clean;
}

std::string axes(const Verdict& verdict) {
  const auto axis = [](bool ok, const char* name) { return fmt::format("{}{}", ok ? "" : "NOT ", name); };
  return fmt::format("{} {} {}", axis(verdict.valid, "VALID"), axis(verdict.converged, "CONVERGED"),
                     axis(verdict.clean, "CLEAN"));
}

}  // namespace longseq
