# shellcheck shell=bash
# Sourced by test.sh, testhosts.sh and cluster/try_slurm.sh: runs tests, says of each whether it passed, and counts.

passed=0 failed=0
count() { passed=$((passed + $1)); failed=$((failed + $2)); }
finish() {
  echo "$passed passed, $failed failed"
  exit $((failed > 0))
}
stage() { echo "== $* ($SECONDS s)"; }

# check NAME COMMAND...: one test, whose output is shown where it fails. Where it passes, a last line "note: ..."
# of its output is shown beside the name.
check() {
  local name=$1 log note status=0
  shift
  log=$(mktemp)
  "$@" >"$log" 2>&1 </dev/null || status=$?
  if ((status == 0)); then
    note=$(tail -n 1 "$log" | sed -n 's/^note: \(.*\)/ (\1)/p')
    echo "passed: $name$note"
    count 1 0
  else
    echo "FAILED: $name (status $status)"
    sed 's/^/    /' "$log" | tail -n 60
    count 0 1
  fi
  rm -f "$log"
  return "$status"
}
