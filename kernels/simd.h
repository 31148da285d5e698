// Which instruction set the kernels run with. One source is compiled for each (Google Highway) and chosen at
// run time: a login node is not a compute node.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace longseq {

/// The targets that this machine can run, best first. NAME_BF16 is NAME with the processor's product of
/// bfloat16 pairs, which tensors in bf16 are then multiplied by.
std::vector<std::string> simd_targets();

/// The target in use.
std::string simd_target();

/// Uses `name` and nothing better from now on; "auto": the best, where NAME_BF16 counts as better than NAME
/// only if its product turns out to be fast here. Throws std::invalid_argument, listing what there is, if
/// this machine or this build has no such target.
void force_simd_target(std::string_view name);

/// Whether tensors in bf16 are multiplied by the processor's product of bfloat16 pairs.
bool dot_in_use();

}  // namespace longseq
