#!/usr/bin/env bash
# Two client nodes and three servers, each in a network namespace of its own, joined by a bridge: links are cut and healed
# while programs work. Nothing is lost, nothing doubled; a short cut is waited out; the locks of a node that stays cut go
# with its lease, and its programs hear of it; a call ends by its deadline.
# Needs root, ip(8), and SEALFS_BIN and SEALFS_WRAP; everything it makes carries its process id in the name, and goes.
set -uo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
: "${SEALFS_BIN:?}" "${SEALFS_WRAP:?}"
if [ "$(id -u)" != 0 ]; then
    echo "skipped: network namespaces need root"
    exit 0
fi
if ! command -v ip >/dev/null; then
    apt-get install -y iproute2 >/dev/null 2>&1 || { echo "ip(8) is missing and could not be installed"; exit 1; }
fi
bin=$(dirname "$(readlink -f "$SEALFS_BIN")")
scratch=$(mktemp -d)
tag=sfs$$
net=10.213.77
mount=/sealfs-ns-$$
read -ra wrap <<<"$SEALFS_WRAP"
daemons=() spaces=()

clean_up() {
    local pid space node
    for node in 1 2; do
        pid=$(cat "/dev/shm/$tag-$node/keeper.pid" 2>/dev/null | tr -dc 0-9) && [ -n "$pid" ] && daemons+=("$pid")
    done
    for pid in "${daemons[@]}"; do kill -9 "$pid" && wait "$pid"; done 2>/dev/null
    for space in "${spaces[@]}"; do ip netns del "$space" 2>/dev/null; done
    rm -rf "$scratch" "/dev/shm/$tag-1" "/dev/shm/$tag-2"
}
trap clean_up EXIT
trap 'exit 1' INT TERM

passed=0 failed=0
verdict() { # verdict NAME WHY: empty WHY is good
    if [ -z "$2" ]; then echo "ok   $1"; passed=$((passed + 1)); else echo "FAIL $1: $2"; failed=$((failed + 1)); fi
}
# wait_for TENTHS COMMAND...: tries until it succeeds.
wait_for() {
    local left=$1
    shift
    until "$@" >/dev/null 2>&1; do
        left=$((left - 1))
        [ $left -gt 0 ] || return 1
        sleep 0.1
    done
}
give_up() { echo "FAIL $1"; tail -n 5 "$scratch"/*.log 2>/dev/null; echo "$passed passed, 1 failed"; exit 1; }

# ---- the network: a namespace each, and a switch --------------------------------------------------------------------
space() { # space NAME HOST: a namespace with address $net.HOST
    ip netns add "$tag-$1" && spaces+=("$tag-$1") &&
        ip link add "$tag$1" type veth peer name "p$1" netns "$tag-sw" &&
        ip link set "$tag$1" netns "$tag-$1" name eth0 &&
        ip -n "$tag-sw" link set "p$1" master bridge up &&
        ip -n "$tag-$1" addr add "$net.$2/24" dev eth0 &&
        ip -n "$tag-$1" link set eth0 up && ip -n "$tag-$1" link set lo up
}
cut_off() { ip -n "$tag-sw" link set "p$1" down; }
heal() { ip -n "$tag-sw" link set "p$1" up; }
ip netns add "$tag-sw" && spaces+=("$tag-sw") && ip -n "$tag-sw" link add bridge type bridge forward_delay 0 &&
    ip -n "$tag-sw" link set bridge up || give_up "no network namespace can be made here"
space m 1 && space s0 10 && space s1 11 && space s2 12 && space c1 21 && space c2 22 || give_up "the network cannot be made"

# ---- the cluster ----------------------------------------------------------------------------------------------------
daemon() { # daemon SPACE NAME COMMAND...
    local in=$1 name=$2
    shift 2
    ip netns exec "$tag-$in" "$@" --ready-file "$scratch/$name.ready" >"$scratch/$name.log" 2>&1 &
    daemons+=($!)
    wait_for 100 test -e "$scratch/$name.ready" || give_up "$name does not start"
}
manager=tcp://$net.1:7420
mkdir "$scratch/manager"
daemon m manager "$bin/sealfs-manager" --listen "$manager" --insecure-listen --state-dir "$scratch/manager"
for n in 0 1 2; do
    mkdir -p "$scratch/s$n/meta"
    daemon "s$n" "s$n" "$bin/sealfs-server" --name "s$n" --listen "tcp://$net.1$n:7421" --insecure-listen \
        --manager "$manager" --meta-dir "$scratch/s$n/meta" --data "$scratch/s$n/data" --size-bytes 268435456
done
ip netns exec "$tag-m" "$SEALFS_BIN" volume create v --mode 777 --manager "$manager" >"$scratch/volume.log" 2>&1 ||
    give_up "no volume"
for node in 1 2; do mkdir -m 700 "/dev/shm/$tag-$node"; done
deadline_ms=30000
on() { # on NODE COMMAND...: a program on that node
    local node=$1
    shift
    ip netns exec "$tag-c$node" "${wrap[@]}" SEALFS_MANAGER="$manager" SEALFS_VOLUME=v SEALFS_MOUNT="$mount" \
        SEALFS_RUNTIME_DIR="/dev/shm/$tag-$node" SEALFS_DEADLINE_MS="$deadline_ms" "$@"
}
gcc -O1 -D_GNU_SOURCE -o "$scratch/worker" "$top/c-tests/namespaces.c" || give_up "the worker does not compile"
on 1 mkdir "$mount/todo" "$mount/done" 2>"$scratch/mkdir.log" || give_up "the mount is not there"
[ ! -e "$mount" ] || give_up "the kernel has $mount"

# ---- short cuts are waited out --------------------------------------------------------------------------------------
rounds=150 why=
for node in 1 2; do
    on "$node" "$scratch/worker" count "$mount" "n$node" $rounds >"$scratch/count$node" 2>&1 &
    jobs[node]=$!
done
for node in 1 2; do wait_for 200 grep -q 'under way' "$scratch/count$node" || why='the work did not begin'; done
for place in s2 c1 s0 c2; do
    cut_off "$place"
    sleep 1
    heal "$place"
    sleep 0.5
done
for node in 1 2; do wait "${jobs[node]}"; done
for node in 1 2; do
    [ "$(tail -n 1 "$scratch/count$node")" = finished ] || why="node $node: $(tail -n 1 "$scratch/count$node")"
done
verdict "programs go on after short cuts" "$why"
why=
counter=$(on 2 cat "$mount/counter")
[ "$counter" = $((2 * rounds)) ] || why="the counter is $counter, not $((2 * rounds))"
left=$(on 1 ls "$mount/todo" | wc -l) moved=$(on 2 ls "$mount/done" | sort -u | wc -l)
[ "$left/$moved" = "0/$((2 * rounds))" ] || why="$why; $left files left, $moved moved"
verdict "nothing is lost and nothing done twice" "$why"

# ---- a node that stays cut ------------------------------------------------------------------------------------------
why=
mkfifo "$scratch/tell"
on 1 "$scratch/worker" hold "$mount" <"$scratch/tell" >"$scratch/hold" 2>&1 &
holder=$!
exec 8>"$scratch/tell"
wait_for 100 grep -q held "$scratch/hold" || why='the lock was not taken'
on 2 "$scratch/worker" wait "$mount" >"$scratch/wait" 2>&1 &
waiter=$!
wait_for 5 grep -q 'got it' "$scratch/wait" && why='two hold one lock'
cut_off c1
start=$SECONDS
wait $waiter
took=$((SECONDS - start))
[ "$(cat "$scratch/wait")" = 'got it' ] || why="${why:-the waiter: $(cat "$scratch/wait")}"
[ $took -ge 5 ] && [ $took -le 20 ] || why="${why:-the lock went after $took s}"
verdict "the lock of a node that is cut off goes with its lease" "$why"
heal c1
why=
echo >&8
wait $holder
[ "$(tail -n 1 "$scratch/hold")" = 'pwrite: EIO' ] || why="it says: $(tail -n 1 "$scratch/hold")"
[ "$(on 2 cat "$mount/held")" = other ] || why="$why; the file says $(on 2 cat "$mount/held")"
verdict "who comes back after its lease gets EIO" "$why"
exec 8>&-
why=
wait_for 150 on 1 touch "$mount/again" || why='still refused after 15 s'
verdict "new programs of that node work again" "$why"

# ---- deadlines ------------------------------------------------------------------------------------------------------
why=
for n in 0 1 2; do cut_off "s$n"; done
deadline_ms=2000
start=$SECONDS
on 2 cat "$mount/counter" >"$scratch/cat" 2>&1 && why='read without servers'
[ $((SECONDS - start)) -le 10 ] || why="${why:-it took $((SECONDS - start)) s}"
for n in 0 1 2; do heal "s$n"; done
deadline_ms=30000
[ "$(on 2 cat "$mount/counter")" = "$counter" ] || why=${why:-'not readable after the cut'}
verdict "a call ends by its deadline, and works after the cut" "$why"

echo "$passed passed, $failed failed"
[ $failed = 0 ]
