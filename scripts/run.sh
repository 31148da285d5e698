#!/usr/bin/env bash
# One command from a fresh clone to a figure: set-up, build, measure, report.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/launch.sh
source "$repository/scripts/launch.sh"

usage() {
  cat <<'END'
Usage: scripts/run.sh [--experiment NAME|FILE] [--ranks R] [--threads T] [--output FILE.h5] [--help]

  --experiment  a sweep of suite/experiments by name, or a .cfg file (default: quick)
  --ranks       MPI ranks (default: the physical cores divided by --threads)
  --threads     threads of each rank (default: the physical cores divided by --ranks, or 1)
  --output      the result file (default: results/EXPERIMENT-TIME.h5, a new one for each run); a file that an
                interrupted run left behind is continued after its last finished case

Datasets lie in $LONGSEQ_DATA (default: data/). The page is written to report.html, the figures as PNG beside
the result. On a cluster see scripts/cluster/.
END
}

fail() { echo "run.sh: $*" >&2; exit 2; }

experiment=quick ranks='' threads='' output=''
while (($# > 0)); do
  case $1 in
    --help) usage; exit 0 ;;
    --experiment | --ranks | --threads | --output)
      (($# > 1)) || fail "$1 needs a value; see scripts/run.sh --help"
      printf -v "${1#--}" '%s' "$2"
      shift 2 ;;
    *) fail "unknown option '$1'; see scripts/run.sh --help" ;;
  esac
done

config=$experiment
[[ $experiment == *.cfg ]] || config=$repository/suite/experiments/$experiment.cfg
if [[ ! -r $config ]]; then
  known=$(cd "$repository/suite/experiments" && for file in *.cfg; do printf '%s ' "${file%.cfg}"; done)
  fail "no experiment '$experiment'; there are: $known(or give a .cfg file)"
fi
for count in "$ranks" "$threads"; do
  [[ -z $count || $count =~ ^[1-9][0-9]*$ ]] || fail "'$count' is no number of ranks or threads; expected 1 or more"
done

started=$SECONDS
"$repository/scripts/setup.sh"

cores=$(physical_cores)
if [[ -z $threads ]]; then threads=$((${ranks:-$cores} < cores ? cores / ${ranks:-$cores} : 1)); fi
if [[ -z $ranks ]]; then ranks=$((threads < cores ? cores / threads : 1)); fi
if [[ -z $output ]]; then
  output=$repository/results/$(basename "$config" .cfg)-$(date +%Y%m%dT%H%M%S).h5
fi
export LONGSEQ_DATA=${LONGSEQ_DATA:-$repository/data}

echo "run: building (log: build/build.log)"
mkdir -p "$repository/build" "$(dirname "$output")"
if ! (cd "$repository" && cmake --preset release && cmake --build --preset release) \
  >"$repository/build/build.log" 2>&1; then
  tail -n 40 "$repository/build/build.log" >&2
  fail "the build failed; the lines above end build/build.log"
fi

"$repository/build/longseq" data make english

choose_launcher "$ranks" "$threads"
echo "run: $(basename "$config" .cfg) on $ranks ranks x $threads threads ($cores cores)"
# A case that fails its verdict makes bench end non-zero; its reasons belong on the page all the same.
status=0
progress=off # under mpirun stderr is a pipe even on a terminal: say what this script sees
if [[ -t 2 ]]; then progress=on; fi
"${launcher[@]}" "$repository/build/longseq" bench --config "$config" --threads "$threads" --output "$output" \
  --progress "$progress" || status=$?
[[ -s $output ]] || { echo "run.sh: bench ended with status $status and left no result" >&2; exit $((status ? status : 1)); }

"$repository/.venv/bin/python" "$repository/scripts/report.py" "$output" --output "$repository/report.html" \
  --figures "${output%.h5}-figures"
echo "run: $((SECONDS - started)) s in all"
echo "run: result  $output"
echo "run: figures ${output%.h5}-figures/"
echo "run: page    $repository/report.html"
exit "$status"
