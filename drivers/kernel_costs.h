// What this machine's kernels and messages cost, for the predictor: measured in the same launch.
#pragma once

#include <mpi.h>

#include "drivers/sharding/machine.h"
#include "suite/calibrate.h"
#include "suite/case.h"
#include "suite/placement.h"

namespace longseq {

/// Some tenths of a second: attention of four shapes in the case's type, with its head-dim and position term,
/// forward and if it needs that backward, all ranks at once; the slowest rank's. Messages and memory are the
/// launch's calibration. The same on all ranks. Collective.
Machine measure_machine(MPI_Comm comm, ThreadTeam& team, const Placement& placement,
                        const Calibration& calibration, const Case& c);

}  // namespace longseq
