// Which instruction set the kernels run with. One source is compiled for each (Google Highway) and chosen at
// run time: a login node is not a compute node.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace longseq {

/// How neighbours in bfloat16 are multiplied: in f32 after widening, by the vector unit's product of pairs,
/// or by the matrix unit (Intel AMX).
enum class PairProducts { none, dot, matrix };

/// The targets that this machine can run, best first. NAME_BF16 is NAME with the processor's product of
/// bfloat16 pairs, NAME_AMX with its matrix unit, for tensors in bf16.
std::vector<std::string> simd_targets();

/// The target in use.
std::string simd_target();

/// Uses `name` and nothing better from now on; "auto": the best, where NAME_BF16 and NAME_AMX count as better
/// than NAME only if their products turn out to be fast here. Throws std::invalid_argument, listing what
/// there is, if this machine or this build has no such target.
void force_simd_target(std::string_view name);

/// How tensors in bf16 are multiplied by the target in use.
PairProducts pair_products();

/// How the 24 sums of a product in registers lie, where there are 32 registers: 12 rows × 2 vectors, which
/// streams little again for each group of rows, or 6 × 4, which loads less for each sum. The same values
/// either way, to the bit, as long as all are finite.
enum class RegisterTile { tall, wide };

/// Wide where the first-level cache has at least 48 KiB, unless the other was forced. Targets with 16
/// registers make products of 6 × 2 whatever it is.
RegisterTile register_tile();
void force_register_tile(RegisterTile tile);

}  // namespace longseq
