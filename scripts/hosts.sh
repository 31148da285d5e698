# shellcheck shell=bash
# Sourced by testhosts.sh and cluster/try_slurm.sh: hosts on one machine. Each is a network namespace with an
# address and a host name of its own; virtual cables join them to a bridge, which has one more namespace to itself,
# so that the machine's own network is not touched. Files, /dev/shm and process numbers are common to all.
# Everything is named after the script's process: what a killed one left behind is known by it, and removed.

hosts=()        # their names, which are also the namespaces'
hosts_folder='' # for the script's files, removed with the hosts

skip() { echo "skipped: $*"; exit 0; }

# prepare_hosts N: the array `hosts` and the folder. Where hosts cannot be made the script ends here.
prepare_hosts() {
  local index
  command -v ip >/dev/null || skip "no program 'ip' to make hosts with; install iproute2"
  remove_abandoned_hosts
  for ((index = 0; index < $1; ++index)); do hosts+=("longseq-$$-host$index"); done
  trap 'remove_hosts $$' EXIT
  hosts_folder=$(mktemp -d "/tmp/longseq-$$.XXXXXX")
  write_host_agent
  if ! make_hosts 2>"$hosts_folder/refusal"; then
    skip "no network namespaces here: $(tail -n 1 "$hosts_folder/refusal")"
  fi
}

host_address() { echo "10.77.0.$(($1 + 1))"; } # of the host with this index

# make_hosts: fails, with the kernel's words on stderr, where namespaces or virtual cables cannot be made.
make_hosts() {
  local switch=longseq-$$-switch index host
  ip netns add "$switch" &&
    ip -n "$switch" link add bridge type bridge &&
    ip -n "$switch" link set bridge up || return
  for index in "${!hosts[@]}"; do
    host=${hosts[index]}
    ip netns add "$host" &&
      ip link add cable netns "$host" type veth peer name "port$index" netns "$switch" &&
      ip -n "$switch" link set "port$index" master bridge up &&
      ip -n "$host" address add "$(host_address "$index")/24" dev cable &&
      ip -n "$host" link set cable up &&
      ip -n "$host" link set lo up &&
      on_host "$host" true || return
  done
}

# on_host HOST COMMAND...
# shellcheck disable=SC2016  # the inner shell expands
on_host() { ip netns exec "$1" unshare --uts sh -c 'hostname "$0" && exec "$@"' "$@"; }

# mpirun's remote shell (plm_rsh_agent): called with a host and words of shell, as ssh is.
write_host_agent() {
  cat >"$hosts_folder/agent" <<'AGENT'
#!/bin/sh
host=$1
shift
exec ip netns exec "$host" unshare --uts sh -c "hostname $host && $*"
AGENT
  chmod +x "$hosts_folder/agent"
}

# Bytes that have left the hosts through their cables so far, in all.
bytes_between_hosts() {
  local host sum=0
  for host in "${hosts[@]}"; do
    sum=$((sum + $(ip netns exec "$host" cat /sys/class/net/cable/statistics/tx_bytes)))
  done
  echo "$sum"
}

# remove_hosts PROCESS: the hosts that this script made, all that runs on them, and their files.
remove_hosts() {
  local namespace processes attempt
  for namespace in $(ip netns list | awk -v prefix="longseq-$1-" 'index($1, prefix) == 1 {print $1}'); do
    for ((attempt = 0; attempt < 50; ++attempt)); do
      processes=$(ip netns pids "$namespace")
      [[ -n $processes ]] || break
      xargs kill -KILL <<<"$processes" 2>/dev/null || true
      sleep 0.1
    done
    ip netns delete "$namespace"
  done
  rm -rf "/tmp/longseq-$1".?????? "/dev/shm/vader_segment.longseq-$1-"*
}

remove_abandoned_hosts() {
  local process
  for process in $({ ip netns list; ls /tmp; } | sed -n 's/^longseq-\([0-9]*\)[-.].*/\1/p' | sort -u); do
    [[ -d /proc/$process ]] || remove_hosts "$process"
  done
}
