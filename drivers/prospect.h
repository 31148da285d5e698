// A case before it is run: whether it can, by which strategy, and how long it should take.
#pragma once

#include <mpi.h>

#include <filesystem>

#include "drivers/problem.h"
#include "suite/calibrate.h"
#include "suite/case.h"
#include "suite/placement.h"

namespace longseq {

/// What all cases of a launch share.
struct Launch {
  MPI_Comm comm = MPI_COMM_WORLD;
  int rank = 0;
  int ranks = 1;
  Placement placement;
  Calibration calibration;
  std::filesystem::path data_dir;
};

/// Where the ranks of MPI_COMM_WORLD are; not calibrated yet.
Launch start_launch();

/// `problem`: the case's, as make_problem() makes it. Throws std::invalid_argument on all ranks if the case
/// cannot run here: no such strategy, a corpus that is missing or too short, not enough memory. Allocates
/// nothing large. Collective.
void expect_runnable(const Launch& launch, const Case& c, const Problem& problem);

/// A case before it is run.
struct Prospect {
  Case chosen;                // with a planner's strategy
  bool picked = false;        // it was `auto`
  double predicted_time = 0;  // s of a repetition
};

/// Measures what kernels cost just now, picks the strategy of an `auto` case, and predicts the case's time.
/// Collective; the same on all ranks.
Prospect foresee(const Launch& launch, const Case& c, const Problem& problem);

}  // namespace longseq
