// The parameters of position terms in attend's files, (heads, ...): every rank reads them all, and their
// gradients are summed over the ranks.
#pragma once

#include <mpi.h>

#include "drivers/layer.h"
#include "drivers/tensor_file.h"
#include "suite/case.h"

namespace longseq {

/// learned: /bias (H, 2R+1), distance −R first. elan: /elan (H, N), a weight for each binary digit of the
/// distance, the lowest first. Throws std::invalid_argument if they are of another shape or not finite.
/// T: float or double.
template <class T>
void read_position_parameters(const Case& c, const TensorInput& input, LayerInputs<T>& inputs);

/// Writes /dbias or /delan, shaped as /bias or /elan. Collective.
template <class T>
void write_position_gradients(MPI_Comm comm, const Case& c, Layer<T>& layer, TensorOutput& output);

}  // namespace longseq
