#!/usr/bin/env bash
# A Slurm job. Build first, on a node like those that compute (scripts/setup.sh, cmake --preset release,
# cmake --build --preset release) and make the data: build/longseq data make english. Then, from the repository:
#   sbatch --nodes=4 scripts/cluster/slurm.sh quick
# The first argument names an experiment of suite/experiments (default: quick).
#SBATCH --job-name=longseq
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=2
# One rank per NUMA domain is a good start: ntasks-per-node = its number, cpus-per-task = its cores.
#SBATCH --cpus-per-task=16
#SBATCH --hint=nomultithread
#SBATCH --exclusive
#SBATCH --time=01:00:00
#SBATCH --output=results/slurm-%j.log
# The site decides these; uncomment and fill in:
##SBATCH --partition=...
##SBATCH --account=...
set -euo pipefail

cd "${SLURM_SUBMIT_DIR:?this is a Slurm job: start it with sbatch from the repository}"
# The modules that longseq was built with, for example:
# module load gcc openmpi hdf5

experiment=${1:-quick}
read -ra options <<<"${LONGSEQ_OPTIONS:-}" # more for bench: scripts/scale.sh sets it
threads=${SLURM_CPUS_PER_TASK:-1}
export LONGSEQ_DATA=${LONGSEQ_DATA:-$PWD/data} # on a file system that every node sees

# The result is named after the job, so that a requeued job continues after its last finished case.
output=results/$experiment-$SLURM_JOB_ID.h5

# srun starts the ranks when Slurm and MPI both speak PMIx ('srun --mpi=list' shows pmix). Since Slurm 22.05
# it no longer inherits --cpus-per-task, hence the repetition.
# A case that is not valid makes bench end in error; its reasons belong on the page all the same.
status=0
if [[ $(srun --mpi=list 2>&1) == *pmix* ]]; then
  srun --mpi=pmix --cpus-per-task="$threads" --cpu-bind=cores \
    build/longseq bench --config "suite/experiments/$experiment.cfg" --threads "$threads" "${options[@]}" --output "$output" ||
    status=$?
else
  mpirun -n "$SLURM_NTASKS" --map-by "slot:PE=$threads" --bind-to core \
    build/longseq bench --config "suite/experiments/$experiment.cfg" --threads "$threads" "${options[@]}" --output "$output" ||
    status=$?
fi

if [[ -x .venv/bin/python && -s $output ]]; then
  .venv/bin/python scripts/report.py "$output" --output "report-$SLURM_JOB_ID.html"
fi
exit "$status"
