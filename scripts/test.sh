#!/usr/bin/env bash
# Builds with warnings as errors and runs every test: C++, Python, formatting, and one journey from the program
# to a report. Its last line is the plain count, "N passed, N failed".
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$repository"
# shellcheck source=scripts/checks.sh
source scripts/checks.sh
# shellcheck source=scripts/launch.sh
source scripts/launch.sh

usage() {
  cat <<'END'
Usage: scripts/test.sh [--sanitize] [--help]

  --sanitize  afterwards also build with the address and undefined-behaviour sanitizers, and run the C++ tests so
END
}

sanitize=no
for argument in "$@"; do
  case $argument in
    --sanitize) sanitize=yes ;;
    --help) usage; exit 0 ;;
    *) echo "test.sh: unknown option '$argument'; see scripts/test.sh --help" >&2; exit 2 ;;
  esac
done

# cpp_tests PRESET CMAKE_OPTION...: configures, builds, runs ctest and counts its tests.
cpp_tests() {
  local preset=$1 log
  shift
  check "configure ($preset)" cmake --preset "$preset" -DLONGSEQ_WERROR=ON "$@" || return 0
  stage "build ($preset)"
  check "build ($preset)" cmake --build --preset "$preset" || return 0
  stage "ctest ($preset)"
  log=$(mktemp)
  # A rank waits for the others of its test: more tests at once than cores would only make them time out.
  ctest --preset "$preset" --parallel "$(physical_cores)" 2>&1 | tee "$log" || true
  count_lines ctest "$(sed -n 's/.*, \([0-9]*\) tests failed out of \([0-9]*\).*/\1 \2/p' "$log")"
  rm -f "$log"
}

# count_lines WHO "FAILED TOTAL": a runner that says nothing has itself failed.
count_lines() {
  local wrong total
  if read -r wrong total <<<"$2" && [[ -n $total ]] && ((total > 0)); then
    count $((total - wrong)) "$wrong"
  else
    echo "FAILED: $1 ran no test"
    count 0 1
  fi
}

python_tests() {
  local log wrong right
  log=$(mktemp)
  .venv/bin/python -m pytest -q -p no:cacheprovider scripts drivers 2>&1 | tee "$log" || true
  right=$(tail -n 1 "$log" | grep -oE '[0-9]+ passed' | cut -d' ' -f1 || true)
  wrong=$(tail -n 1 "$log" | grep -oE '[0-9]+ (failed|error)' | awk '{sum += $1} END {print sum + 0}' || true)
  count_lines pytest "$wrong $((${right:-0} + wrong))"
  rm -f "$log"
}

# Versions of clang-format disagree with each other: the one whose word counts is 14.
formatting() {
  if command -v clang-format >/dev/null && [[ $(clang-format --version) == *"version 14."* ]]; then
    check "clang-format" bash -c \
      'find kernels datasets results suite drivers -name "*.h" -o -name "*.cpp" | xargs clang-format --dry-run -Werror' || true
  else
    echo "skipped: clang-format 14 is not here"
  fi
  if command -v shellcheck >/dev/null; then
    check "shellcheck" shellcheck -x .ci/run scripts/*.sh scripts/cluster/*.sh || true
  else
    echo "skipped: shellcheck is not here"
  fi
}

# refused COMMAND...: succeeds if the command fails within 30 seconds, with something to say. Called through check.
# shellcheck disable=SC2317
refused() {
  local said status=0
  said=$(timeout 30 "$@" 2>&1) || status=$?
  echo "status $status: $said"
  ((status != 0 && status != 124)) && [[ -n $said ]]
}

# From the program to a page, on two ranks and a case that takes no time.
journey() {
  local folder python=.venv/bin/python
  folder=$(mktemp -d)
  choose_launcher 2 1
  local bench=("${launcher[@]}" build/longseq bench --pattern local --causal --window-left 64 --seq-len 1024
    --heads 2 --head-dim 32 --strategy halo --threads 1 --max-time 5)
  check "bench on two ranks" "${bench[@]}" --output "$folder/one.h5" || true
  check "bench again: already complete" bash -c '"$@" 2>&1 | grep -i "already complete"' _ \
    "${bench[@]}" --output "$folder/one.h5" || true
  check "bench refuses a sequence of length 0" refused "${bench[@]}" --seq-len 0 --output "$folder/none.h5" || true
  check "h5dump reads the result" h5dump -H "$folder/one.h5" || true
  check "report" "$python" scripts/report.py "$folder/one.h5" --output "$folder/report.html" || true
  check "breakdown" "$python" scripts/plot.py breakdown "$folder/one.h5" --case 0 --output "$folder/one.png" || true
  head -c 2000 "$folder/one.h5" >"$folder/cut.h5" 2>/dev/null || true
  check "report refuses a cut-off file" refused "$python" scripts/report.py "$folder/cut.h5" \
    --output "$folder/cut.html" || true
  rm -rf "$folder"
}

stage "set-up"
scripts/setup.sh
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
stage "configure (release)"
cpp_tests release
stage "Python"
python_tests
stage "formatting"
formatting
stage "journey"
journey
stage "several hosts"
count_lines testhosts.sh "$(scripts/testhosts.sh --hosts 2 | tee >(cat >&2) | sed -n '
  s/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p; s/^skipped: .*/1 0/p' | awk '{ print $2, $1 + $2 }')"
if [[ $sanitize == yes ]]; then
  # Open MPI unloads its plug-ins before leaks are looked for, so that theirs can be neither named nor left out.
  export ASAN_OPTIONS=detect_leaks=0
  stage "configure (sanitize)"
  cpp_tests sanitize
fi
finish
