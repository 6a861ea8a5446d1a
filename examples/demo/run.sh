#!/usr/bin/env bash
# Runs every step of steps/ on a sealfs volume and on a local directory, compares what they print and the trees they
# leave, and prints a table. Exit 1 if a step differs.
#
#   SEALFS_BIN=…/sealfs run.sh           starts an embedded cluster of three servers and takes it down
#   SEALFS_WRAP='env …' SEALFS_ROOT=DIR  uses a cluster that runs: DIR is a directory below its mount
#   DEMO_ONLY=REGEX                      only these steps
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d)
chmod 755 "$scratch"
. "$here/common.sh"
cluster=
leave() {
    [ -z "$cluster" ] || "$SEALFS_BIN" dev down --wipe --state "$cluster" >/dev/null
    rm -rf "$scratch"
}
trap leave EXIT
trap 'exit 130' INT TERM

if [ -z "${SEALFS_WRAP:-}" ] && [ -n "${SEALFS_BIN:-}" ]; then
    cluster=$scratch/state
    "$SEALFS_BIN" dev up --servers 3 --mount /sealfs --volume demo --state "$cluster" >/dev/null || exit 1
    SEALFS_WRAP=$("$SEALFS_BIN" dev env --prefix --state "$cluster") || exit 1
    SEALFS_ROOT=/sealfs
fi
root=${SEALFS_ROOT:-$scratch/other}
read -ra wrap <<<"${SEALFS_WRAP:-}"
must_be_virtual "$root" ${wrap[@]+"${wrap[@]}"}
prepare_source

side() { # side LOG DIR STEP [PREFIX...]: one side of a comparison, with its seconds
    local log=$1 dir=$2 step=$3 start=$EPOCHREALTIME
    shift 3
    run_step "$dir" "$step" "$log" "$@"
    awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.2f", b - a }' >"$log.time"
    keep_tree "$dir" "$log" "$@"
}

passed=0 failed=0
printf '%-10s %-9s %10s %10s  %s\n' program result here local what
for step in "$here"/steps/*.sh; do
    name=$(basename "$step" .sh)
    [[ $name =~ ${DEMO_ONLY:-.} ]] || continue
    side "$scratch/$name.local" "$scratch/local" "$step"
    side "$scratch/$name.here" "$root/$name" "$step" ${wrap[@]+"${wrap[@]}"}
    if cmp -s "$scratch/$name.local" "$scratch/$name.here"; then
        result=same passed=$((passed + 1))
    else
        result=DIFFERENT failed=$((failed + 1))
    fi
    printf '%-10s %-9s %8s s %8s s  %s\n' "${name#*-}" $result "$(cat "$scratch/$name.here.time")" \
        "$(cat "$scratch/$name.local.time")" "$(sed -n '1s/^# *//p' "$step")"
    if [ $result = DIFFERENT ]; then
        diff "$scratch/$name.local" "$scratch/$name.here" | head -20
        tail -5 "$scratch/$name.here.err"
    fi
done
if [ -n "$cluster" ]; then
    echo
    manager=$(grep -o 'SEALFS_MANAGER=[^ ]*' <<<"$SEALFS_WRAP")
    env "$manager" "$SEALFS_BIN" status
fi
echo
echo "$passed passed, $failed failed"
[ $failed = 0 ] && [ $passed -gt 0 ]
