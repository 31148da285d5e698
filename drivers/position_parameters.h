// The parameters of position terms in attend's files: every rank reads them all, and their gradients are
// summed over the ranks.
#pragma once

#include <mpi.h>

#include "drivers/position_terms.h"
#include "drivers/tensor_file.h"
#include "suite/case.h"

namespace longseq {

/// learned: /bias (H, 2R+1), distance −R first. elan: /elan (H, N), a weight for each binary digit of the
/// distance, the lowest first. relative: /relative_weights (W, H, D), which take the sinusoid of a distance
/// to the keys of heads, and /content_bias and /position_bias (H, D), u and v of Dai et al. 2019. Throws
/// std::invalid_argument if they are of another shape or not finite. T: float or double.
template <class T>
void read_position_parameters(const Case& c, const TensorInput& input, PositionParameters<T>& parameters);

/// Bytes that these datasets take in memory, with their gradients if there is a backward pass, beyond what
/// position_bytes() counts.
std::int64_t parameter_bytes(const Case& c, const TensorInput& input, std::int64_t accumulator_bytes);

/// Writes the gradient of each dataset that was read, shaped as it, by its name with a d before it: /dbias.
/// `gradients`, each rank's share, are summed on rank 0. Collective.
template <class A>
void write_position_gradients(MPI_Comm comm, const Case& c, const PositionParameters<A>& parameters,
                              PositionGradients<A>& gradients, TensorOutput& output);

}  // namespace longseq
