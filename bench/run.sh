#!/usr/bin/env bash
# make bench: the file-system benchmark fsbench on an embedded cluster with one server, beside tmpfs.
#
#   FSBENCH_DIR  where fsbench.c, limits.c and compare.py stand (default ../shared/bench beside this repository)
#   ROUNDS, PROCS, SERVERS, ARGS   rounds, client processes, servers, fsbench's own options
#
# Prints what the machine can do at best (limits), then medians and ratios as Markdown. Starts and ends its own cluster.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${FSBENCH_DIR:=../shared/bench}" "${ROUNDS:=3}" "${PROCS:=1}" "${SERVERS:=1}"
: "${ARGS:=-n 300 -s 64M -i 2000 -a 30 -T 3}"
[ -f "$FSBENCH_DIR/fsbench.c" ] || { echo "bench: no fsbench.c in $FSBENCH_DIR: set FSBENCH_DIR to the folder that holds it" >&2; exit 2; }
bin=${CARGO_TARGET_DIR:-target}/release
work=$(mktemp -d); state=$work/state
trap '"$bin/sealfs" dev down --wipe --state "$state" >/dev/null 2>&1 || true; rm -rf "$work" /dev/shm/sealfs-bench' EXIT
# In a virtual machine the first touch of memory that its host had taken back costs many microseconds a page.
warm_mib=$(awk '/^MemAvailable/ { mib = $2 / 2048; print int(mib < 8192 ? mib : 8192) }' /proc/meminfo)
dd if=/dev/zero of=/dev/shm/sealfs-warm bs=1M count="$warm_mib" 2>/dev/null || true
rm -f /dev/shm/sealfs-warm
gcc -O2 -w -o "$work/fsbench" "$FSBENCH_DIR/fsbench.c" -lpthread
gcc -O2 -w -o "$work/limits" "$FSBENCH_DIR/limits.c" -lpthread
"$work/limits"
"$bin/sealfs" dev up --servers "$SERVERS" --state "$state" --size $((4 << 30)) >/dev/null
wrap=$("$bin/sealfs" dev env --state "$state" --prefix)
mkdir -p /dev/shm/sealfs-bench
printf 'tmpfs\t/dev/shm/sealfs-bench\t-\t\nsealfs\t/sealfs\t%s\t%s\n' "$state" "$wrap" > "$work/targets.tsv"
# shellcheck disable=SC2086 # ARGS is a list of words
python3 "$FSBENCH_DIR/compare.py" --targets "$work/targets.tsv" --fsbench "$work/fsbench" --rounds "$ROUNDS" --procs "$PROCS" --ref tmpfs -- $ARGS
