#!/usr/bin/env bash
# kill -9 of each server in turn while a copy and a git session run on the mount, and `dev start` after it: the work
# finishes, and prints and leaves what it does on a local directory.
# Needs SEALFS_BIN, SEALFS_STATE, SEALFS_WRAP and SEALFS_ROOT of an embedded cluster of SERVERS (3) servers.
set -uo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
here=$top/examples/demo
scratch=$(mktemp -d)
chmod 755 "$scratch"
trap 'rm -rf "$scratch"' EXIT
. "$here/common.sh"
read -ra wrap <<<"${SEALFS_WRAP:?}"
: "${SEALFS_BIN:?}" "${SEALFS_STATE:?}" "${SEALFS_ROOT:?}"
prepare_source
must_be_virtual "$SEALFS_ROOT" "${wrap[@]}"

cat >"$scratch/copy.sh" <<'STEP'
# Copies of the source tree, one after the other, each verified.
for i in 1 2 3 4 5 6; do
    cp -a "$SRC" "copy$i" && diff -r --no-dereference "$SRC" "copy$i" && echo "copy $i is good"
done
mv copy1 moved
rm -rf copy2
STEP

# wait_for LIMIT COMMAND...: tries the command until it succeeds, at most LIMIT times, 50 ms apart.
wait_for() {
    local left=$1
    shift
    until "$@" >/dev/null 2>&1; do
        left=$((left - 1))
        [ $left -gt 0 ] || return 1
        sleep 0.05
    done
    return 0
}

passed=0 failed=0
verdict() { # verdict NAME WHY: empty WHY is good
    if [ -z "$2" ]; then echo "ok   $1"; passed=$((passed + 1)); else echo "FAIL $1: $2"; failed=$((failed + 1)); fi
}

# with_kill NAME STEP SERVER: the step runs in the background; once it has made its directory the server dies.
with_kill() {
    local name=$1 step=$2 server=$3 dir=$SEALFS_ROOT/kill-$1-$3 log=$scratch/$1-$3
    run_step "$dir" "$step" "$log" "${wrap[@]}" &
    local job=$! why=
    wait_for 200 "${wrap[@]}" bash -c 'set -- "$1"/*/*; [ -e "$1" ]' probe "$dir" || why='never started'
    kill -0 $job 2>/dev/null || why=${why:-'was over before the kill'}
    "$SEALFS_BIN" dev kill "server-$server" --signal KILL --state "$SEALFS_STATE" >/dev/null || why=${why:-'dev kill failed'}
    "$SEALFS_BIN" dev start "server-$server" --state "$SEALFS_STATE" >/dev/null || why=${why:-'dev start failed'}
    wait $job
    keep_tree "$dir" "$log" "${wrap[@]}"
    cmp -s "$scratch/$name.local" "$log" || why=${why:-"differs: $(diff "$scratch/$name.local" "$log" | head -5; tail -3 "$log.err")"}
    verdict "$name with server-$server killed" "$why"
}

for work in copy git; do
    step=$scratch/copy.sh
    [ $work = copy ] || step=$here/steps/06-git.sh
    run_step "$scratch/local" "$step" "$scratch/$work.local"
    keep_tree "$scratch/local" "$scratch/$work.local"
    for ((server = 0; server < ${SERVERS:-3}; server++)); do
        with_kill "$work" "$step" "$server"
    done
done
echo "$passed passed, $failed failed"
[ $failed = 0 ] && [ $passed -gt 0 ]
