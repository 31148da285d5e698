// What one core can do at most: the ceilings that kernels are held against. Call them on all threads at once
// to learn what the cores can do together.
#pragma once

#include <cstdint>

#include "kernels/simd.h"

namespace longseq {

/// FLOP/s of independent fused multiply-adds held in registers, with the instruction set in use, for about
/// `seconds`. T is float or double.
template <class T>
double measure_fma_rate(double seconds);

/// FLOP/s of products of bfloat16 pairs done so, in registers; of widened ones the f32 rate. The processor
/// must have the instructions (simd.h: a target NAME_BF16, NAME_AMX).
double measure_pair_rate(PairProducts products, double seconds);

/// Bytes/s of a[i] = b[i] + scalar·c[i] over three arrays of `elements` floats each, counting 12 bytes an
/// element (two reads and one write), the best of the passes that fit into `seconds`. The arrays are first
/// touched here.
double measure_triad_rate(std::int64_t elements, double seconds);

}  // namespace longseq
