#!/usr/bin/env bash
# A scaling series: one launch, and one results file, for each number of ranks.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/launch.sh
source "$repository/scripts/launch.sh"

usage() {
  cat <<'END'
Usage: scripts/scale.sh strong|weak [--ranks "1 2 4 ..."] [--threads T] [--through local|slurm|pbs]
                        [--output DIR] [--help]

  strong     the same work on more ranks: suite/experiments/scaling-strong.cfg
  weak       work that grows with them: suite/experiments/scaling-weak.cfg, whose seq_len is that of one rank
  --ranks    the numbers of ranks (default: powers of two up to the physical cores divided by --threads)
  --threads  of each rank (default: 1)
  --through  local: one after the other, here (default). slurm, pbs: a job each, by scripts/cluster/
  --output   folder of the results, RANKS.h5 (default: results/KIND-TIME). Local launches that were interrupted
             are continued when the same folder is named again, and the figure is drawn at the end

Build first (scripts/run.sh does). Jobs write to results/; draw them, once they have ended, by
  .venv/bin/python scripts/plot.py scaling RESULTS... --kind strong|weak --output scaling.png
END
}

fail() { echo "scale.sh: $*" >&2; exit 2; }

kind='' ranks='' threads=1 through=local output=''
while (($# > 0)); do
  case $1 in
    --help) usage; exit 0 ;;
    strong | weak) kind=$1; shift ;;
    --ranks | --threads | --through | --output)
      (($# > 1)) || fail "$1 needs a value; see scripts/scale.sh --help"
      printf -v "${1#--}" '%s' "$2"
      shift 2 ;;
    *) fail "unknown option '$1'; see scripts/scale.sh --help" ;;
  esac
done
[[ -n $kind ]] || fail "strong or weak? see scripts/scale.sh --help"
[[ $threads =~ ^[1-9][0-9]*$ ]] || fail "--threads is '$threads'; expected 1 or more"
[[ $through == local || $through == slurm || $through == pbs ]] ||
  fail "--through is '$through'; expected local, slurm or pbs"
if [[ -z $ranks ]]; then
  for ((p = 1; p * threads <= $(physical_cores); p *= 2)); do ranks+="$p "; done
fi
for p in $ranks; do
  [[ $p =~ ^[1-9][0-9]*$ ]] || fail "--ranks has '$p'; expected numbers of ranks, 1 or more"
done
[[ -x $repository/build/longseq ]] || fail "build/longseq is not there; hint: scripts/run.sh builds it"
cd "$repository"

experiment=scaling-$kind
of_one_rank=$(sed -n 's/^seq_len *= *\([0-9]*\)k$/\1/p' "suite/experiments/$experiment.cfg" | head -n 1)
# options_of RANKS: what bench is told beyond the sweep.
options_of() {
  if [[ $kind == weak ]]; then echo "--seq-len $((of_one_rank * $1))k"; fi
}

if [[ $through != local ]]; then
  for p in $ranks; do
    export LONGSEQ_OPTIONS
    LONGSEQ_OPTIONS=$(options_of "$p")
    if [[ $through == slurm ]]; then
      sbatch --ntasks="$p" --nodes=1-"$p" --cpus-per-task="$threads" scripts/cluster/slurm.sh "$experiment"
    else
      qsub -l "select=$p:ncpus=$threads:mpiprocs=1:ompthreads=$threads" -v "experiment=$experiment,LONGSEQ_OPTIONS" \
        scripts/cluster/pbs.sh
    fi
  done
  exit 0
fi

output=${output:-results/$kind-$(date +%Y%m%dT%H%M%S)}
mkdir -p "$output"
files=() status=0
for p in $ranks; do
  choose_launcher "$p" "$threads"
  read -ra options <<<"$(options_of "$p")"
  echo "scale: $experiment on $p ranks x $threads threads ${options[*]}"
  # A case that fails its verdict makes bench end non-zero; its reasons are printed, the others go on.
  "${launcher[@]}" build/longseq bench --config "suite/experiments/$experiment.cfg" --threads "$threads" \
    "${options[@]}" --output "$output/$p.h5" || status=$?
  files+=("$output/$p.h5")
done
if [[ -x .venv/bin/python ]] && ((${#files[@]} > 1)); then
  .venv/bin/python scripts/plot.py scaling "${files[@]}" --kind "$kind" --output "$output/$kind.png" || true
fi
echo "scale: results ${files[*]}"
exit "$status"
