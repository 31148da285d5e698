#!/usr/bin/env bash
# Runs slurm.sh under a real Slurm: a controller and two nodes, which are hosts made on this machine (../hosts.sh).
# Its last line is the plain count, "N passed, M failed".
# shellcheck disable=SC2317  # functions are called through check
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$repository"
# shellcheck source=scripts/checks.sh
source scripts/checks.sh
# shellcheck source=scripts/hosts.sh
source scripts/hosts.sh

usage() {
  cat <<'END_OF_USAGE'
Usage: scripts/cluster/try_slurm.sh [--help]

Starts munged, slurmctld and two slurmd with a configuration, ports and folders of their own, submits
scripts/cluster/slurm.sh for a small sweep, once with srun starting the ranks (PMIx) and once with mpirun, lets
scripts/scale.sh submit a small series of jobs, and checks the results. Needs root, and a build (LONGSEQ_PROGRAM: another longseq than build/longseq). On Debian and Ubuntu
Slurm's packages are installed if missing; their services are not started. Nothing keeps running afterwards.
END_OF_USAGE
}

fail() { echo "try_slurm.sh: $*" >&2; exit 2; }

for argument in "$@"; do
  case $argument in
    --help) usage; exit 0 ;;
    *) fail "unknown option '$argument'; see scripts/cluster/try_slurm.sh --help" ;;
  esac
done

((EUID == 0)) || skip "try_slurm.sh starts Slurm's daemons, which needs root (this is user $(id -un)); try sudo"
PATH=$PATH:/usr/sbin # su does not always have it
program=${LONGSEQ_PROGRAM:-$repository/build/longseq}
[[ -x $program ]] || fail "no program $program; build first: cmake --preset release && cmake --build --preset release"

# Debian starts the services of a package that it installs, unless this file says no.
install_slurm() {
  local policy=/usr/sbin/policy-rc.d status=0
  if [[ -e $policy ]]; then
    scripts/setup.sh --slurm
  else
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    scripts/setup.sh --slurm || status=$?
    rm "$policy"
    return "$status"
  fi
}
install_slurm

prepare_hosts 2
chmod 755 "$hosts_folder" # munged's socket must be within reach of all users
export SLURM_CONF=$hosts_folder/slurm.conf

write_configuration() {
  cat >"$SLURM_CONF" <<CONFIGURATION
ClusterName=longseq
SlurmctldHost=${hosts[0]}($(host_address 0))
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$hosts_folder/munge.socket
CredType=cred/munge
MpiDefault=pmix
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=2
StateSaveLocation=$hosts_folder/state
SlurmdSpoolDir=$hosts_folder/spool-%n
TmpFS=$hosts_folder/tmp-%n
SlurmctldPidFile=$hosts_folder/slurmctld.pid
SlurmdPidFile=$hosts_folder/slurmd-%n.pid
SlurmdLogFile=$hosts_folder/%n.log
NodeName=${hosts[0]} NodeAddr=$(host_address 0) CPUs=$(nproc)
NodeName=${hosts[1]} NodeAddr=$(host_address 1) CPUs=$(nproc)
PartitionName=all Nodes=ALL Default=YES
CONFIGURATION
  # Nothing here uses cgroups, but slurmd would look for their kind, and a host of ours does not show them.
  echo CgroupPlugin=cgroup/v1 >"$hosts_folder/cgroup.conf"
}

# start NAME HOST COMMAND...: a daemon, in the foreground of a process of its own; removed with the host.
start() {
  local name=$1
  shift
  on_host "$@" >"$hosts_folder/$name.log" 2>&1 </dev/null &
}

show_errors() {
  sinfo_here || true
  (cd "$hosts_folder" && grep -E 'error|fatal' -- *.log | tail -n 40)
}

sinfo_here() { on_host "${hosts[0]}" timeout 5 sinfo --noheader --format '%D %T'; }

slurm_comes_up() {
  local host attempt deadline
  mkdir "$hosts_folder/state" "${hosts[@]/#/$hosts_folder/tmp-}"
  mungekey --create --keyfile "$hosts_folder/munge.key"
  start munged "${hosts[0]}" munged --foreground --key-file "$hosts_folder/munge.key" \
    --socket "$hosts_folder/munge.socket" --pid-file "$hosts_folder/munged.pid" \
    --seed-file "$hosts_folder/munged.seed"
  for ((attempt = 0; attempt < 50; ++attempt)); do
    [[ ! -S $hosts_folder/munge.socket ]] || break
    sleep 0.1
  done
  start slurmctld "${hosts[0]}" slurmctld -D
  for host in "${hosts[@]}"; do start "slurmd-$host" "$host" slurmd -D; done
  deadline=$((SECONDS + 30))
  while ((SECONDS < deadline)); do
    [[ $(sinfo_here 2>&1) != "2 idle" ]] || return 0
    sleep 1
  done
  echo "the nodes are not idle after 30 s; expected '2 idle' of sinfo"
  show_errors
  return 1
}

# A folder like the repository, for results that are not to lie there.
submission=$hosts_folder/submission
make_submission() {
  mkdir -p "$submission/suite/experiments" "$submission/results" "$submission/build" "$hosts_folder/without-pmix"
  ln -s "$repository/scripts" "$repository/.venv" "$submission"
  ln -s "$program" "$submission/build/longseq"
  cat >"$submission/suite/experiments/small.cfg" <<'SWEEP'
pattern = local
causal = on
window_left = 64
seq_len = 1k
strategy = ring, halo
heads = 2
head_dim = 32
max_time = 2
SWEEP
  sed 's/^max_time.*/max_time = 1/' "$submission/suite/experiments/small.cfg" \
    >"$submission/suite/experiments/scaling-weak.cfg"
  # Found first on the PATH: an srun that does not know PMIx, so that slurm.sh takes mpirun.
  cat >"$hosts_folder/without-pmix/srun" <<SRUN
#!/bin/sh
if [ "\$*" = --mpi=list ]; then echo none; else exec $(command -v srun) "\$@"; fi
SRUN
  chmod +x "$hosts_folder/without-pmix/srun"
}

# run_job WAY [FOLDER]: submits slurm.sh, waits, and looks at the result. FOLDER comes first on the job's PATH.
run_job() {
  local way=$1 first=${2:-} before number said
  before=$(bytes_between_hosts)
  said=$(cd "$submission" && PATH=${first:+$first:}$PATH on_host "${hosts[0]}" timeout 150 sbatch --parsable --wait \
    --nodes=2 --ntasks-per-node=1 --cpus-per-task=1 scripts/cluster/slurm.sh small) ||
    { echo "sbatch ended with status $? ($said)"; show_errors; cat "$submission"/results/slurm-*.log; return 1; }
  number=${said%%;*}
  cat "$submission/results/slurm-$number.log"
  [[ -s $submission/report-$number.html ]] || { echo "no page report-$number.html"; return 1; }
  .venv/bin/python - "$submission/results/small-$number.h5" "$way" "${hosts[@]}" <<'PYTHON' || return
import sys, h5py
path, way, *hosts = sys.argv[1:]
with h5py.File(path) as file:
    environment = file["environment"]
    complete, cases = file.attrs["complete"], len(file["cases"])
    names = [name.decode() for name in environment["hostname"]]
    started = "srun" if "SLURM_STEP_NUM_TASKS" in environment.attrs else "mpirun"
if complete != 1 or cases != 2:
    sys.exit(f"complete = {complete} with {cases} cases; expected 1 and 2")
if names != hosts:
    sys.exit(f"the ranks ran on {names}; expected {hosts}")
if started != way:
    sys.exit(f"{started} started the ranks; expected {way}")
PYTHON
  echo "note: 2 cases complete, one rank on each node, $((($(bytes_between_hosts) - before) / 1024)) KiB between them"
}

# run_series: a weak series of one and two ranks, submitted by scale.sh, which does not wait for its jobs.
run_series() {
  local said numbers deadline=$((SECONDS + 120))
  said=$(cd "$submission" && on_host "${hosts[0]}" scripts/scale.sh weak --ranks "1 2" --threads 1 --through slurm) ||
    { echo "scale.sh ended with status $? ($said)"; show_errors; return 1; }
  mapfile -t numbers < <(grep -o '[0-9]*$' <<<"$said")
  while [[ -n $(on_host "${hosts[0]}" timeout 5 squeue --noheader) ]]; do
    ((SECONDS < deadline)) || { echo "the jobs of scale.sh have not ended after 120 s"; show_errors; return 1; }
    sleep 1
  done
  .venv/bin/python - "${numbers[@]/#/$submission/results/scaling-weak-}" <<'PYTHON' || { cat "$submission"/results/slurm-*.log; return 1; }
import sys, h5py
for ranks, path in enumerate(sys.argv[1:], start=1):
    with h5py.File(path + ".h5") as file:
        found = {(int(r), int(s)) for r, s in zip(file["summary/ranks"][()], file["summary/seq_len"][()])}
        if file.attrs["complete"] != 1 or found != {(ranks, ranks * 1024)}:
            sys.exit(f"{path}: complete = {file.attrs['complete']}, (ranks, tokens) {found}; expected 1, {(ranks, ranks * 1024)}")
if len(sys.argv) != 3:
    sys.exit(f"{len(sys.argv) - 1} jobs; expected 2")
PYTHON
  echo "note: jobs of 1 and 2 ranks, as many tokens for each rank"
}

# UCX would find its own way between hosts that are one machine; both ranks may meet on one core.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_pml=ob1 OMPI_MCA_osc=^ucx OMPI_MCA_mpi_yield_when_idle=1

stage "Slurm"
write_configuration
check "$(slurmd -V): a controller and two nodes come up" slurm_comes_up || finish
make_submission
stage "jobs"
check "slurm.sh, ranks started by srun --mpi=pmix" run_job srun || true
check "slurm.sh, ranks started by mpirun" run_job mpirun "$hosts_folder/without-pmix" || true
check "scale.sh weak --through slurm" run_series || true
finish
