// What one core can do at most: the ceilings that kernels are held against. Call them on all threads at once
// to learn what the cores can do together.
#pragma once

#include <cstdint>

namespace longseq {

/// FLOP/s of independent fused multiply-adds held in registers, with the instruction set in use, for about
/// `seconds`. T is float or double.
template <class T>
double measure_fma_rate(double seconds);

/// The same of `threads` threads at once, their rates added up.
template <class T>
double measure_fma_rate(int threads, double seconds);

/// FLOP/s of the processor's product of bfloat16 pairs, 4 a lane and instruction; 0 where the instruction set
/// in use is not known to have it. The processor must have it (simd.h: a target NAME_BF16).
double measure_dot_rate(double seconds);

/// Bytes/s of a[i] = b[i] + scalar·c[i] over three arrays of `elements` floats each, counting 12 bytes an
/// element (two reads and one write), the best of the passes that fit into `seconds`. The arrays are first
/// touched here.
double measure_triad_rate(std::int64_t elements, double seconds);

}  // namespace longseq
