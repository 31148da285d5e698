# shellcheck shell=bash
# Sourced by run.sh and test.sh: how many cores there are, and how ranks are started on this machine.

# The physical cores that this process may use: hardware threads of one core count once, and neither a CPU
# mask nor a container's CPU quota is overstepped.
physical_cores() {
  local cores topology allowed quota period
  if [[ -r /proc/self/status ]] && topology=$(lscpu -p=CPU,CORE,SOCKET 2>/dev/null); then
    allowed=$(awk '/^Cpus_allowed_list/ {print $2}' /proc/self/status)
    cores=$(awk -F, -v allowed="$allowed" '
      BEGIN { n = split(allowed, ranges, ",")
              for (i = 1; i <= n; ++i) { m = split(ranges[i], ends, "-")
                for (cpu = ends[1]; cpu <= ends[m]; ++cpu) may[cpu + 0] = 1 } }
      !/^#/ && ($1 + 0) in may { core[$2 "," $3] = 1 }
      END { count = 0; for (c in core) ++count; print count }' <<<"$topology")
  else
    cores=$(getconf _NPROCESSORS_ONLN)
  fi
  if [[ -r /sys/fs/cgroup/cpu.max ]]; then
    read -r quota period </sys/fs/cgroup/cpu.max
    if [[ $quota != max ]] && ((quota / period < cores)); then cores=$((quota / period)); fi
  fi
  echo $((cores > 0 ? cores : 1))
}

# choose_launcher RANKS THREADS: sets the array `launcher`, the mpirun command up to the program. Each way is
# tried on `true`, the best first, because a container may forbid binding and a scheduler may count slots.
choose_launcher() {
  local ranks=$1 threads=$2 way ways=() options
  launcher=(mpirun -n "$ranks")
  mpirun --version 2>/dev/null | grep -q 'Open MPI' || return 0
  if ((EUID == 0)); then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  fi
  if ((ranks * threads <= $(physical_cores))); then
    ways+=("--map-by slot:PE=$threads --bind-to core" "--bind-to none")
  fi
  ways+=("--oversubscribe --bind-to none")
  for way in "${ways[@]}"; do
    read -ra options <<<"$way"
    launcher=(mpirun -n "$ranks" "${options[@]}")
    if "${launcher[@]}" true >/dev/null 2>&1 </dev/null; then
      [[ $way == *core ]] || echo "launch: ranks are not bound to cores here (mpirun $way)" >&2
      return 0
    fi
  done
  echo "launch: mpirun cannot start $ranks ranks; try it by hand: ${launcher[*]} true" >&2
  return 1
}
