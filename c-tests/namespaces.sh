#!/usr/bin/env bash
# Two client nodes and three servers, each in a network namespace of its own, joined by a bridge: links are cut and healed
# while programs work. Nothing is lost, nothing doubled; a short cut is waited out; the locks of a node that stays cut go
# with its lease, and its programs hear of it; a call ends by its deadline.
# Files without names live as long as their holders, over the kill of a server, and go with the lease of a silent node; a server
# that starts as on a machine that was booted anew (its incarnation rises) costs one EIO at fsync and no lock.
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
    # Without the pipes of workers, which would never come to their end.
    ip netns exec "$tag-$in" "$@" --ready-file "$scratch/$name.ready" >"$scratch/$name.log" 2>&1 6>&- 7>&- 8>&- 9>&- &
    daemons+=($!)
    wait_for 100 test -e "$scratch/$name.ready" || give_up "$name does not start"
}
manager=tcp://$net.1:7420
mkdir "$scratch/manager"
daemon m manager "$bin/sealfs-manager" --listen "$manager" --insecure-listen --state-dir "$scratch/manager"
cp /proc/sys/kernel/random/boot_id "$scratch/boot_id"
server() { # server N: starts it on a machine whose boot has the id of the file
    local n=$1
    rm -f "$scratch/s$n.ready"
    daemon "s$n" "s$n" sh -c 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"' "$scratch/boot_id" \
        "$bin/sealfs-server" --name "s$n" --listen "tcp://$net.1$n:7421" --insecure-listen \
        --manager "$manager" --meta-dir "$scratch/s$n/meta" --data "$scratch/s$n/data" --size-bytes 268435456
    servers[n]=${daemons[-1]}
}
servers=()
for n in 0 1 2; do
    mkdir -p "$scratch/s$n/meta"
    server "$n"
done
restart_all() { # kill -9 of every server, one after the other
    local n
    for n in 0 1 2; do
        kill -9 "${servers[n]}"
        wait "${servers[n]}" 2>/dev/null
        server "$n"
    done
}
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

# ---- appends, circles of locks --------------------------------------------------------------------------------------
lines=400 why=
for node in 1 2; do
    on "$node" "$scratch/worker" append "$mount" "n$node" $lines >"$scratch/append$node" 2>&1 &
    jobs[node]=$!
done
for node in 1 2; do wait_for 200 grep -q 'under way' "$scratch/append$node" || why='the work did not begin'; done
cut_off c2
sleep 0.5
heal c2
for node in 1 2; do
    wait "${jobs[node]}"
    [ "$(tail -n 1 "$scratch/append$node")" = finished ] || why="node $node: $(tail -n 1 "$scratch/append$node")"
done
on 1 cat "$mount/appended" | awk -v n=$lines '
    { want = "0"; if (length($3) != 1 + $2 * 37 % 2900 || $3 !~ /^0+$/ || $2 != next_of[$1]++) bad++ }
    END { print (NR == 2 * n && !bad && next_of["n1"] == n && next_of["n2"] == n) ? "good" : NR " lines, " bad + 0 " bad" }' >"$scratch/appended"
[ "$(cat "$scratch/appended")" = good ] || why="${why:-$(cat "$scratch/appended")}"
verdict "appends of two nodes stand whole and in order" "$why"

why=
pipes() { for pipe in "$@"; do mkfifo "$scratch/$pipe"; done; }
pipes tell-a tell-b
on 1 "$scratch/worker" circle "$mount" todo/a done/b <"$scratch/tell-a" >"$scratch/circle-a" 2>&1 &
a=$!
exec 6>"$scratch/tell-a"
on 2 "$scratch/worker" circle "$mount" done/b todo/a <"$scratch/tell-b" >"$scratch/circle-b" 2>&1 &
b=$!
exec 7>"$scratch/tell-b"
for one in a b; do wait_for 100 grep -q held "$scratch/circle-$one" || why="$one took no lock"; done
echo >&6
sleep 0.3
echo >&7
wait_for 50 grep -q EDEADLK "$scratch/circle-b" || why="${why:-the second wait: $(tail -n 1 "$scratch/circle-b")}"
[ "$(tail -n 1 "$scratch/circle-a")" = held ] || why="${why:-the first wait: $(tail -n 1 "$scratch/circle-a")}"
echo >&7
exec 7>&-
wait $b
wait_for 50 grep -q 'got it' "$scratch/circle-a" || why="${why:-the first wait did not end}"
echo >&6
exec 6>&-
wait $a
verdict "the wait that closes a circle over two nodes gets EDEADLK" "$why"

# ---- files without names --------------------------------------------------------------------------------------------
used_mib() { on 2 df -m --output=used "$mount" | tail -n 1 | tr -dc 0-9; }
is_below() { [ "$(used_mib)" -lt "$1" ]; }
ask() { # ask PIPE FILE: the answer to one more question
    local lines
    lines=$(wc -l <"$2")
    echo >&"$1"
    wait_for 400 sh -c "[ \$(wc -l <'$2') -gt $lines ]" || echo 'no answer'
    tail -n 1 "$2"
}
why=
pipes tell-o
before=$(used_mib)
on 1 "$scratch/worker" orphans "$mount" <"$scratch/tell-o" >"$scratch/orphans" 2>&1 &
holder=$!
exec 9>"$scratch/tell-o"
wait_for 200 grep -q open "$scratch/orphans" || why="not opened: $(cat "$scratch/orphans")"
restart_all
# Longer than a lease, in which the holder makes no call.
sleep 13
found=$(ask 9 "$scratch/orphans")
[ "$found" = 'there, there' ] || why="${why:-$found}"
verdict "files without names outlive the kill of every server while they are open" "$why"
why=
[ "$(used_mib)" -ge $((before + 8)) ] || why="only $(used_mib) MiB are used, $before before"
keeper=$(tr -dc 0-9 <"/dev/shm/$tag-1/keeper.pid")
holding=$(pgrep -P "$holder" || echo "$holder")
kill -STOP "$keeper" "$holding"
sleep 4
is_below $((before + 8)) && why="${why:-they went before the lease was over}"
wait_for 200 is_below $((before + 4)) || why="${why:-$(used_mib) MiB are used, $before before}"
verdict "files without names go with the lease of a node that is stopped" "$why"
why=
kill -CONT "$keeper" "$holding"
found=$(ask 9 "$scratch/orphans")
[ "$found" = 'EIO, EIO' ] || why="it says: $found"
exec 9>&-
wait "$holder"
verdict "who was stopped past its lease gets EIO for what it lost" "$why"
wait_for 150 on 1 touch "$mount/again" || give_up 'the node does not come back'

# ---- another boot ---------------------------------------------------------------------------------------------------
why=
pipes tell-s tell-h
on 1 "$scratch/worker" sync "$mount" <"$scratch/tell-s" >"$scratch/sync" 2>&1 &
syncer=$!
exec 7>"$scratch/tell-s"
on 1 "$scratch/worker" hold "$mount" <"$scratch/tell-h" >"$scratch/hold" 2>&1 &
holder=$!
exec 8>"$scratch/tell-h"
wait_for 100 grep -q written "$scratch/sync" && wait_for 100 grep -q held "$scratch/hold" || why='they did not begin'
cat /proc/sys/kernel/random/uuid >"$scratch/boot_id"
restart_all
on 2 "$scratch/worker" wait "$mount" >"$scratch/wait" 2>&1 &
waiter=$!
echo >&7
exec 7>&-
wait $syncer
[ "$(tail -n 2 "$scratch/sync" | tr '\n' ' ')" = 'EIO synced ' ] || why="${why:-fsync: $(tail -n 2 "$scratch/sync" | tr '\n' ' ')}"
verdict "writes that a server may have lost are EIO at fsync, once" "$why"
why=
sleep 8
grep -q 'got it' "$scratch/wait" && why='another got the lock meanwhile'
echo >&8
exec 8>&-
wait $holder
[ "$(tail -n 1 "$scratch/hold")" = wrote ] || why="${why:-the holder: $(tail -n 1 "$scratch/hold")}"
wait $waiter
[ "$(cat "$scratch/wait")" = 'got it' ] || why="${why:-the waiter: $(cat "$scratch/wait")}"
verdict "a lock outlives the boot of its server, and goes when it is given back" "$why"

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
