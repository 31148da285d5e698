// For tests: the instruction sets that this machine has, and the forms of sums in registers.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <type_traits>

#include "kernels/bfloat16.h"
#include "kernels/simd.h"

namespace longseq {

/// Calls check() for each target that computes tensors of T in its own way. Problems, whose answers take
/// longer than the kernels do, are best drawn outside.
template <class T, class Check>
void for_each_target(const Check& check) {
  const struct Restore {
    ~Restore() { force_simd_target("auto"); }
  } restore;
  for (const std::string& name : simd_targets()) {
    // NAME_BF16 and NAME_AMX are NAME for all that is not in bf16.
    if (!std::is_same_v<T, BFloat16> && name.find('_') != std::string::npos) continue;
    SCOPED_TRACE(name);
    force_simd_target(name);
    check();
  }
}

/// Calls check() with either register tile.
template <class Check>
void for_each_register_tile(const Check& check) {
  const struct Restore {
    RegisterTile usual = register_tile();
    ~Restore() { force_register_tile(usual); }
  } restore;
  for (const RegisterTile tile : {RegisterTile::tall, RegisterTile::wide}) {
    SCOPED_TRACE(tile == RegisterTile::wide ? "wide" : "tall");
    force_register_tile(tile);
    check();
  }
}

}  // namespace longseq
