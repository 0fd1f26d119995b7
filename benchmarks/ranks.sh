#!/usr/bin/env bash
# How a training scales over MPI ranks with one core each: one rank, two on one machine, and two on two machines that are
# network namespaces joined by a cable of RATE. As root, on Linux with at least two cores, iproute2 and Open MPI.
#
#   benchmarks/ranks.sh target/release/asft --config run.toml --set train.max_steps=6
#   RATE=1gbit benchmarks/ranks.sh …
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
asft=$(realpath "$1")
shift
scratch=$(mktemp -d)
clean() {
  for host in 1 2; do ip netns del "asft$host" 2>/dev/null || true; done
  rm -rf "$scratch"
}
trap clean EXIT

for host in 1 2; do
  ip netns add "asft$host"
  ip -n "asft$host" link set lo up
done
ip link add asft1 type veth peer name asft2
for host in 1 2; do
  ip link set "asft$host" netns "asft$host"
  ip -n "asft$host" addr add "10.77.0.$host/24" dev "asft$host"
  ip -n "asft$host" link set "asft$host" up
  [ -z "${RATE:-}" ] || tc -n "asft$host" qdisc add dev "asft$host" root tbf rate "$RATE" burst 256kb latency 50ms
done
# What mpirun starts programs of other machines with, in place of ssh.
cat >"$scratch/enter" <<'AGENT'
#!/bin/sh
host=asft${1##*.}
shift
exec ip netns exec "$host" unshare --uts sh -c "hostname $host; $*"
AGENT
chmod +x "$scratch/enter"

export RAYON_NUM_THREADS=1 OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
mpi=(mpirun -n 2 -x RAYON_NUM_THREADS -x OMP_NUM_THREADS --oversubscribe --bind-to none)
network=10.77.0.0/24
apart=(--host 10.77.0.1,10.77.0.2 --mca plm_rsh_agent "$scratch/enter" --mca btl "tcp,self"
  --mca btl_tcp_if_include "$network" --mca oob_tcp_if_include "$network")

run() {
  local name=$1
  shift
  "$@" --set "train.output=\"$scratch/$name\"" >"$scratch/log" 2>&1 || { cat "$scratch/log" >&2; exit 1; }
  # The first step is left out: it touches all memory for the first time.
  grep '"kind":"train"' "$scratch/$name/metrics.jsonl" | tail -n +2 | awk -v name="$name" -v cores="$cores" '
    function of(key) { return match($0, "\"" key "\":[^,}]*") ? substr($0, RSTART + length(key) + 3, RLENGTH - length(key) - 3) : 0 }
    { seconds += of("seconds"); tokens += of("tokens"); waited += of("communication_share") * of("seconds"); loss = of("loss") }
    END { printf "%-22s %9.1f tokens/s %9.1f a core %6.1f%% communication   last loss %.6f\n",
          name, tokens / seconds, tokens / seconds / cores, 100 * waited / seconds, loss }'
}
cores=1 run "one rank" "$asft" train "$@"
cores=2 run "two ranks" "${mpi[@]}" "$asft" train "$@"
cores=2 run "two ranks apart" ip netns exec asft1 "${mpi[@]}" "${apart[@]}" "$asft" train "$@"
