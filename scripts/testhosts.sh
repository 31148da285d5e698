#!/usr/bin/env bash
# Runs the distributed tests between hosts, over TCP, on one machine: see hosts.sh for how hosts are made. Its last
# line is the plain count, "N passed, N failed".
# shellcheck disable=SC2317  # functions are called through check
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$repository"
# shellcheck source=scripts/checks.sh
source scripts/checks.sh
# shellcheck source=scripts/hosts.sh
source scripts/hosts.sh

usage() {
  cat <<'END_OF_USAGE'
Usage: scripts/testhosts.sh [--hosts N] [--help]

  --hosts  how many hosts, 2 to 4 (default: 2)

Each host is a network namespace of this machine. The executor's tests, and `longseq attend` in every strategy and
layout, run with ranks on all of them; the answers of attend are compared with those of the same ranks on one host,
which share memory. A test in which next to nothing crossed between the hosts fails. Then the ranks of one host are
stopped (SIGSTOP): the job must notice, say who waited for whom, and end. Needs root, and a build
(LONGSEQ_PROGRAM: another longseq than build/longseq); where hosts cannot be made it says so and ends with status 0.
END_OF_USAGE
}

fail() { echo "testhosts.sh: $*" >&2; exit 2; }

host_count=2
while (($# > 0)); do
  case $1 in
    --help) usage; exit 0 ;;
    --hosts)
      (($# > 1)) || fail "$1 needs a value; see scripts/testhosts.sh --help"
      host_count=$2
      shift 2 ;;
    *) fail "unknown option '$1'; see scripts/testhosts.sh --help" ;;
  esac
done
[[ $host_count =~ ^[2-4]$ ]] || fail "'$host_count' is no number of hosts; expected 2 to 4"

((EUID == 0)) || skip "testhosts.sh makes network namespaces, which needs root (this is user $(id -un)); try sudo"
scripts/setup.sh
program=${LONGSEQ_PROGRAM:-$repository/build/longseq}
executor_test=$(dirname "$program")/tests/executor_test
for file in "$program" "$executor_test"; do
  [[ -x $file ]] || fail "no program $file; build first: cmake --preset release && cmake --build --preset release"
done

prepare_hosts "$host_count"

# UCX would find its own way between hosts that are one machine; ob1 uses the named ways only.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_pml=ob1 OMPI_MCA_osc=^ucx
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_mpi_yield_when_idle=1
export TMPDIR=$hosts_folder
launch=(timeout --foreground --kill-after=10 120 mpirun)

# on_all_hosts RANKS COMMAND...: ranks go round the hosts. Shared memory joins those of one host, as on a cluster.
on_all_hosts() {
  local ranks=$1 list
  shift
  list=$(printf '%s:8,' "${hosts[@]}")
  on_host "${hosts[0]}" "${launch[@]}" --mca btl tcp,vader,self --mca btl_tcp_if_include cable \
    --mca plm_rsh_agent "$hosts_folder/agent" --host "${list%,}" --map-by node -n "$ranks" "$@"
}

on_one_host() {
  local ranks=$1
  shift
  on_host "${hosts[0]}" "${launch[@]}" --mca btl vader,self -n "$ranks" "$@"
}

# crossing BYTES COMMAND...: fails, too, if less than so many bytes crossed between the hosts.
crossing() {
  local least=$1 before crossed
  shift
  before=$(bytes_between_hosts)
  "$@" || return
  crossed=$(($(bytes_between_hosts) - before))
  if ((crossed < least)); then
    echo "$crossed bytes crossed between the hosts, expected at least $least: TCP was not used, or hardly"
    return 1
  fi
  echo "note: $((crossed / 1024)) KiB between hosts"
}

# Starting ranks costs a few messages between the daemons of mpirun; a test must send far more.
start_bytes=0
ranks_are_spread() {
  local names before
  before=$(bytes_between_hosts)
  names=$(on_all_hosts "$host_count" hostname) || return
  start_bytes=$(($(bytes_between_hosts) - before))
  [[ $(sort <<<"$names") == "$(printf '%s\n' "${hosts[@]}" | sort)" ]] ||
    { echo "ranks ran on '$names', expected one on each of ${hosts[*]}"; return 1; }
  echo "note: $((start_bytes / 1024)) KiB between hosts to start them"
}

ranks=$((host_count + 1)) # of attend: one host has two. As many heads, so that heads can be shared out, too
sequence=1021 head_dim=64
files=(.venv/bin/python scripts/attend_files.py)

# attend_agrees BYTES OPTION...: between hosts as on one host, and so many bytes at least have crossed.
attend_agrees() {
  local least=$1 crossed agreement
  shift
  local attend=("$program" attend --input "$hosts_folder/in.h5" --threads 1 "$@")
  rm -f "$hosts_folder"/{one,all}.h5
  on_one_host "$ranks" "${attend[@]}" --output "$hosts_folder/one.h5" || return
  crossed=$(crossing "$least" on_all_hosts "$ranks" "${attend[@]}" --output "$hosts_folder/all.h5") ||
    { echo "$crossed"; return 1; }
  agreement=$("${files[@]}" compare "$hosts_folder"/{one,all}.h5) || return
  echo "$crossed, $agreement"
}

# names_of SECTION: the names that the program's help lists under this heading, but for words that stand for others.
names_of() {
  "$program" attend --help | awk -v heading="$1:" '
    $1 == heading {on = 1; next} !NF {on = 0} on && $1 != "auto" && $1 != "all" {print $1}'
}

attend_everywhere() {
  local strategy layout strategies layouts
  # Keys and values, of which each host must get those of the others; half of that is more than writing /o costs.
  local half=$((ranks * sequence * head_dim * 4))
  strategies=$(names_of Strategies) layouts=$(names_of Layouts)
  [[ -n $strategies && -n $layouts ]] || { check "attend --help lists strategies and layouts" false || true; return; }
  for strategy in $strategies; do
    for layout in $layouts; do
      local options=(--strategy "$strategy" --layout "$layout")
      check "attend full $strategy/$layout" attend_agrees "$half" --pattern full "${options[@]}" || true
      check "attend global $strategy/$layout" attend_agrees $((10 * start_bytes)) --pattern global --causal \
        --window-left 200 --global-tokens 16 "${options[@]}" || true
    done
  done
}

# The ranks of the last host are stopped in the middle of a case: the others must not wait for ever.
stopped_host() {
  local victim=${hosts[-1]} job silent said=$hosts_folder/said waited status=0
  LONGSEQ_WATCHDOG=5 on_all_hosts "$host_count" -x LONGSEQ_WATCHDOG "$program" bench --seq-len 2k --repetitions 1000000 \
    --max-time 60 --threads 1 --output "$hosts_folder/bench.h5" >/dev/null 2>"$said" &
  job=$!
  sleep 5
  silent=$(ip netns pids "$victim" | while read -r process; do
    [[ $(readlink "/proc/$process/exe") != "$(realpath "$program")" ]] || echo "$process"
  done)
  [[ -n $silent ]] || { cat "$said"; echo "no rank ran on $victim after 5 s"; return 1; }
  xargs kill -STOP <<<"$silent"
  for ((waited = 0; waited < 20; ++waited)); do
    kill -0 "$job" 2>/dev/null || break
    sleep 1
  done
  if ((waited == 20)); then
    xargs kill -KILL <<<"$silent"
    wait "$job" || true
    echo "the job went on for 20 s with the ranks of $victim stopped, expected it to end by itself"
    return 1
  fi
  wait "$job" || status=$?
  cat "$said"
  ((status != 0)) || { echo "the job ended well, expected an error"; return 1; }
  grep 'waited' "$said" | grep -q "rank $((host_count - 1))\b" ||
    { echo "no line with 'waited' and 'rank $((host_count - 1))' on stderr"; return 1; }
  echo "note: after $waited s"
}

stage "$host_count hosts"
check "ranks start on $host_count hosts" ranks_are_spread || finish
for count_of_ranks in 2 3 4; do
  check "executor_test on $count_of_ranks ranks" \
    crossing $((10 * start_bytes)) on_all_hosts "$count_of_ranks" "$executor_test" || true
done
stage "attend"
check "input for attend" "${files[@]}" make "$hosts_folder/in.h5" "$ranks" "$sequence" "$head_dim" || finish
attend_everywhere
stage "stopped host"
check "the job ends when the ranks of a host stop" stopped_host || true
finish
