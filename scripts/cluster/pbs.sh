#!/usr/bin/env bash
# A PBS job (PBS Professional, OpenPBS). Build first, on a node like those that compute (scripts/setup.sh,
# cmake --preset release, cmake --build --preset release) and make the data: build/longseq data make english.
# Then, from the repository:
#   qsub -v experiment=quick scripts/cluster/pbs.sh
#PBS -N longseq
# select = nodes, ncpus = cores of a node that are used = mpiprocs (ranks of a node) x ompthreads (of a rank).
# One rank per NUMA domain is a good start.
#PBS -l select=2:ncpus=32:mpiprocs=2:ompthreads=16
#PBS -l place=scatter:excl
#PBS -l walltime=01:00:00
#PBS -j oe
# The site decides these; uncomment and fill in (two # become one):
##PBS -q ...
##PBS -A ...
set -euo pipefail

cd "${PBS_O_WORKDIR:?this is a PBS job: start it with qsub from the repository}"
# The modules that longseq was built with, for example:
# module load gcc openmpi hdf5

experiment=${experiment:-quick}
read -ra options <<<"${LONGSEQ_OPTIONS:-}" # more for bench: scripts/scale.sh sets it
threads=${OMP_NUM_THREADS:-1} # PBS sets it from ompthreads
ranks=$(wc -l <"$PBS_NODEFILE") # one line per rank
export LONGSEQ_DATA=${LONGSEQ_DATA:-$PWD/data} # on a file system that every node sees

# The result is named after the job, so that a job that is run again continues after its last finished case.
output=results/$experiment-${PBS_JOBID%%.*}.h5

# An Open MPI built with PBS support (tm) finds the nodes itself; the file of hosts serves one without.
# --map-by slot:PE=T gives each rank T cores next to each other; -x passes the variable to the other nodes.
hosts=()
[[ $(ompi_info 2>/dev/null) == *'plm: tm'* ]] || hosts=(--hostfile "$PBS_NODEFILE")
# A case that is not valid makes bench end in error; its reasons belong on the page all the same.
status=0
mpirun -n "$ranks" "${hosts[@]}" --map-by "slot:PE=$threads" --bind-to core -x LONGSEQ_DATA \
  build/longseq bench --config "suite/experiments/$experiment.cfg" --threads "$threads" "${options[@]}" --output "$output" ||
  status=$?

if [[ -x .venv/bin/python && -s $output ]]; then
  .venv/bin/python scripts/report.py "$output" --output "report-${PBS_JOBID%%.*}.html"
fi
exit "$status"
