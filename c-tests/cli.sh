#!/usr/bin/env bash
# The command line and trouble from outside: exit codes, one-line errors, a cluster's life, what is refused and how.
# Needs SEALFS_BIN, SEALFS_STATE, SEALFS_WRAP and SEALFS_ROOT of an embedded cluster. CLI_ONLY=REGEX picks.
set -uo pipefail
read -ra wrap <<<"${SEALFS_WRAP:?}"
: "${SEALFS_STATE:?}" "${SEALFS_ROOT:?}"
sealfs=$(realpath "${SEALFS_BIN:?}")
value() { grep -o "$1=[^ ]*" <<<"$SEALFS_WRAP" | cut -d= -f2-; }
mount=$(value SEALFS_MOUNT)
volume=$(value SEALFS_VOLUME | cut -d'#' -f1)
library=$(value LD_PRELOAD)
SEALFS_MANAGER=$(value SEALFS_MANAGER)
export SEALFS_MANAGER
servers=$(($(wc -w <"$SEALFS_STATE/srv.pids") - 1))
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"${wrap[@]}" mkdir -p "$SEALFS_ROOT"

passed=0 failed=0
# t NAME LIMIT: runs the function of that name in a subshell; it fails by `die WHY` or by its status.
t() {
    [[ $1 =~ ${CLI_ONLY:-.} ]] || return 0
    if why=$(export -f die one_line value "$1" && timeout -k 5 "$2" bash -euo pipefail -c "$1" 2>&1); then
        echo "ok   $1"
        passed=$((passed + 1))
    else
        echo "FAIL $1 (status $?): $(tail -n 3 <<<"$why" | cut -c1-300)"
        failed=$((failed + 1))
    fi
}
die() { echo "$*" >&2; exit 1; }
one_line() { # one_line STATUS TEXT COMMAND...: fails with that status and one line that contains TEXT
    local status=$1 text=$2 out s=0
    shift 2
    out=$("$@" 2>&1 >/dev/null) || s=$?
    [ $s = "$status" ] || die "$*: status $s instead of $status: $out"
    [ "$(wc -l <<<"$out")" = 1 ] || die "$*: not one line: $out"
    [[ $out == *"$text"* ]] || die "$*: does not name $text: $out"
}
export servers sealfs mount volume library scratch SEALFS_STATE SEALFS_ROOT SEALFS_WRAP

help-has-examples() {
    for verb in dev 'dev up' 'dev env' 'dev run' 'dev kill' 'dev start' 'dev down' run profile status volume 'volume create' \
        'volume list' 'volume resize' 'volume rename' 'volume set' 'volume delete' server 'server list' ls cat cp rm mkdir stat chunk-size doctor; do
        # shellcheck disable=SC2086
        "$sealfs" $verb --help | grep -q 'Example' || die "$verb --help has no examples"
    done
}
usage-errors-are-2() {
    for words in nonsense 'dev up --servers 0' 'dev up --servers x' 'dev kill' 'volume' 'volume create' 'cp' 'status --nope'; do
        s=0
        # shellcheck disable=SC2086
        "$sealfs" $words >/dev/null 2>&1 || s=$?
        [ $s = 2 ] || die "$words: status $s"
    done
}
status-tells-facts() {
    "$sealfs" status | grep -q "$volume" || die 'no volume in the status'
    "$sealfs" status --json | python3 -c 'import json, sys; s = json.load(sys.stdin); assert s["healthy"] and len(s["servers"]) == int(sys.argv[1]), s' "$servers"
    [ "$("$sealfs" server list --json | python3 -c 'import json, sys; print(len(json.load(sys.stdin)))')" = "$servers" ]
}
volumes-come-and-go() {
    "$sealfs" volume create cli-test --durability memory
    "$sealfs" volume list | grep -q cli-test
    one_line 1 cli-test "$sealfs" volume create cli-test
    "$sealfs" run --volume cli-test --mount "$mount" -- bash -c "echo x > $mount/f && cat $mount/f" | grep -qx x
    # shellcheck disable=SC2086
    ! $SEALFS_WRAP test -e "$mount/f" || die 'two volumes share a root'
    "$sealfs" volume delete cli-test --force
    ! "$sealfs" volume list | grep -q cli-test
    one_line 1 cli-test "$sealfs" volume delete cli-test --force
}
run-passes-on-the-status() {
    s=0
    "$sealfs" run --volume "$volume" --mount "$mount" -- bash -c 'exit 7' || s=$?
    [ $s = 7 ] || die "status $s"
    "$sealfs" run --volume "$volume" --mount "$mount" -- ls -d "$mount" | grep -qx "$mount"
    s=0
    "$sealfs" run --volume "$volume" --mount "$mount" -- no-such-program-here 2>/dev/null || s=$?
    [ $s = 127 ] || die "missing program: status $s"
}
run-refuses-what-cannot-work() {
    one_line 1 tcp://127.0.0.1:1 "$sealfs" run --manager tcp://127.0.0.1:1 --volume "$volume" --mount "$mount" -- true
    one_line 1 nowhere "$sealfs" run --volume nowhere --mount "$mount" -- true
    one_line 1 /usr "$sealfs" run --volume "$volume" --mount /usr -- true
}
cli-files-are-programs-files() {
    d=$SEALFS_ROOT/cli
    # shellcheck disable=SC2086
    $SEALFS_WRAP bash -c "mkdir $d && seq 1000 > $d/f && ln -s f $d/l"
    export SEALFS_VOLUME=$volume SEALFS_MOUNT=$mount
    "$sealfs" cat "$d/f" | cmp - <(seq 1000)
    "$sealfs" ls "$d" | grep -q f
    "$sealfs" mkdir "$d/made"
    head -c 3000000 /dev/zero > "$scratch/z"
    "$sealfs" cp "$scratch/z" "$d/z"
    "$sealfs" stat "$d/z" | grep -q 3000000
    # shellcheck disable=SC2086
    $SEALFS_WRAP cmp "$d/z" "$scratch/z"
    "$sealfs" rm "$d/z"
    # shellcheck disable=SC2086
    ! $SEALFS_WRAP test -e "$d/z"
    s=0
    "$sealfs" cat "$d/none" >/dev/null 2>&1 || s=$?
    [ $s = 1 ] || die "cat of nothing: status $s"
    # shellcheck disable=SC2086
    $SEALFS_WRAP rm -r "$d"
}
doctor-names-the-layers() {
    # shellcheck disable=SC2086
    $SEALFS_WRAP "$sealfs" doctor > "$scratch/doctor" || [ $? = 3 ]
    grep -q '^good  *layer 1' "$scratch/doctor" && grep -q '^good  *layer 2' "$scratch/doctor"
}
dev-run-leaves-nothing() {
    state=$scratch/run-state
    s=0
    "$sealfs" dev run --servers 1 --mount /sealfs-cli --state "$state" -- \
        bash -c 'echo hello > /sealfs-cli/f && cat /sealfs-cli/f && exit 9' > "$scratch/out" || s=$?
    [ $s = 9 ] || die "status $s"
    grep -qx hello "$scratch/out"
    ! pgrep -f "$state" || die 'a process is left'
}
dev-life() {
    state=$scratch/life
    "$sealfs" dev up --servers 2 --mount /sealfs-life --volume life --state "$state" > "$scratch/up"
    grep -q /sealfs-life "$scratch/up" || die 'up does not say how to use it'
    [ "$(wc -w < "$state/srv.pids")" = 3 ] || die "srv.pids: $(cat "$state/srv.pids")"
    w=$("$sealfs" dev env --prefix --state "$state")
    [[ $w == 'env '* ]] || die "$w"
    (eval "$("$sealfs" dev env --state "$state")" && bash -c 'echo kept > /sealfs-life/f') || die 'export lines do not work'
    $w bash -c 'echo more >> /sealfs-life/f'
    "$sealfs" dev kill server-1 --state "$state"
    export SEALFS_MANAGER
    SEALFS_MANAGER=$(grep -o 'SEALFS_MANAGER=[^ ]*' <<<"$w" | cut -d= -f2)
    "$sealfs" dev start server-1 --state "$state"
    "$sealfs" status > /dev/null || die 'not healthy after dev start'
    one_line 1 server-9 "$sealfs" dev kill server-9 --state "$state"
    "$sealfs" dev down --state "$state"
    "$sealfs" dev up --state "$state" > /dev/null
    w=$("$sealfs" dev env --prefix --state "$state")
    [ "$($w cat /sealfs-life/f | tr '\n' ' ')" = 'kept more ' ] || die 'the data did not survive down and up'
    "$sealfs" dev down --wipe --state "$state"
    [ ! -e "$state" ] || [ -z "$(ls -A "$state")" ] || die 'wipe left something'
}
manager-away-nobody-notices() {
    # shellcheck disable=SC2206
    w=($SEALFS_WRAP)
    "${w[@]}" bash -c "echo before > $SEALFS_ROOT/m"
    "$sealfs" dev kill manager --state "$SEALFS_STATE"
    "${w[@]}" bash -c "cat $SEALFS_ROOT/m; echo during > $SEALFS_ROOT/m; mkdir $SEALFS_ROOT/md && rmdir $SEALFS_ROOT/md" || die 'a new program fails'
    "$sealfs" dev start manager --state "$SEALFS_STATE"
    [ "$("${w[@]}" cat "$SEALFS_ROOT/m")" = during ]
    for _ in $(seq 100); do
        ! "$sealfs" status >/dev/null 2>&1 || return 0
        sleep 0.1
    done
    die 'not healthy again'
}
degraded-is-3() {
    last=server-$((servers - 1))
    "$sealfs" dev kill "$last" --state "$SEALFS_STATE"
    s=0
    for _ in $(seq 300); do
        s=0
        "$sealfs" status >/dev/null 2>&1 || s=$?
        [ $s = 0 ] || break
        sleep 0.1
    done
    "$sealfs" dev start "$last" --state "$SEALFS_STATE"
    [ $s = 3 ] || die "status $s"
    "$sealfs" status > /dev/null
}
no-manager-is-EIO-soon() {
    start=$SECONDS
    mkdir -m 700 "/dev/shm/sealfs-cli-$$"
    out=$(env LD_PRELOAD="$library" SEALFS_MOUNT=/sealfs-none SEALFS_VOLUME=x SEALFS_MANAGER=tcp://127.0.0.1:1 \
        SEALFS_SITES="$(value SEALFS_SITES)" SEALFS_RUNTIME_DIR="/dev/shm/sealfs-cli-$$" python3 -c '
import errno, os
try:
    os.listdir("/sealfs-none")
except OSError as e:
    print(errno.errorcode[e.errno])') || die "python failed: $out"
    rm -rf "/dev/shm/sealfs-cli-$$"
    [ "$out" = EIO ] || die "got $out"
    [ $((SECONDS - start)) -le 6 ] || die 'took too long'
}
inert-without-a-mount() {
    for command in 'ls /usr' 'git --version' 'bash -c "echo $((1+1))"' 'python3 -c "print(open(\"/etc/passwd\").read())"'; do
        [ "$(bash -c "$command" | sha256sum)" = "$(env LD_PRELOAD="$library" bash -c "$command" | sha256sum)" ] || die "$command"
    done
    [ "$(LC_ALL=C env LD_PRELOAD="$library" ls "$mount" 2>&1)" = "ls: cannot access '$mount': No such file or directory" ]
}
refused-calls-have-an-errno() {
    # shellcheck disable=SC2086
    $SEALFS_WRAP python3 - "$SEALFS_ROOT" > "$scratch/refused" <<'PY'
import ctypes, errno, os, stat, sys
libc = ctypes.CDLL(None, use_errno=True)
root = sys.argv[1]
path = root + "/refused"
open(path, "w").close()
def name(f):
    try:
        f()
        return "no error"
    except OSError as e:
        return errno.errorcode[e.errno]
def c(function, *arguments):
    ctypes.set_errno(0)
    r = getattr(libc, function)(*arguments)
    return errno.errorcode[ctypes.get_errno()] if r == -1 else "no error"
b = path.encode()
print("chroot", name(lambda: os.chroot(root)))
print("mount", c("mount", b"none", root.encode(), b"tmpfs", 0, None))
os.mknod(root + "/dev", stat.S_IFCHR | 0o600, os.makedev(1, 3))
print("open of a device", name(lambda: os.open(root + "/dev", os.O_RDONLY)))
os.unlink(root + "/dev")
print("security xattr", name(lambda: os.setxattr(path, "security.x", b"v")))
handle = ctypes.create_string_buffer(200)
ctypes.memmove(handle, (128).to_bytes(4, "little"), 4)
print("name_to_handle_at", c("name_to_handle_at", -100, b, handle, ctypes.byref(ctypes.c_int()), 0))
print("io_uring_setup", c("syscall", 425, 8, ctypes.create_string_buffer(200)))
os.unlink(path)
PY
    diff - "$scratch/refused" <<'WANT' || die "$(cat "$scratch/refused")"
chroot ENOTSUP
mount ENOTSUP
open of a device EACCES
security xattr ENOTSUP
name_to_handle_at ENOTSUP
io_uring_setup ENOSYS
WANT
}
prefix-must-not-exist() {
    d=$(mktemp -d)
    s=0
    "$sealfs" dev up --servers 1 --mount "$d" --state "$scratch/exists" >/dev/null 2>"$scratch/err" || s=$?
    rmdir "$d"
    [ $s = 1 ] && grep -q "$d" "$scratch/err" && [ "$(wc -l < "$scratch/err")" = 1 ] || die "status $s: $(cat "$scratch/err")"
    [ ! -e "$scratch/exists" ] || [ -z "$(ls -A "$scratch/exists")" ] || die 'something was written'
}

t help-has-examples 60
t usage-errors-are-2 60
t status-tells-facts 60
t volumes-come-and-go 60
t run-passes-on-the-status 60
t run-refuses-what-cannot-work 60
t cli-files-are-programs-files 60
t doctor-names-the-layers 60
t dev-run-leaves-nothing 60
t dev-life 120
t manager-away-nobody-notices 60
t degraded-is-3 90
t no-manager-is-EIO-soon 30
t inert-without-a-mount 60
t refused-calls-have-an-errno 60
t prefix-must-not-exist 60
echo "$passed passed, $failed failed"
[ $failed = 0 ] && [ $passed -gt 0 ]
