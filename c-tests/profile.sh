#!/usr/bin/env bash
# `sealfs profile` and SEALFS_TRACE: what is counted is what a program of known calls did, in its children and in what it
# executes with an empty environment too; a trace is JSON, with sane times, though a process was killed in the middle of it.
# Needs SEALFS_BIN, SEALFS_WRAP and SEALFS_ROOT of an embedded cluster. PROFILE_ONLY=REGEX picks.
set -uo pipefail
read -ra wrap <<<"${SEALFS_WRAP:?}"
sealfs=$(realpath "${SEALFS_BIN:?}")
value() { grep -o "$1=[^ ]*" <<<"$SEALFS_WRAP" | cut -d= -f2-; }
export SEALFS_MANAGER SEALFS_VOLUME SEALFS_MOUNT
SEALFS_MANAGER=$(value SEALFS_MANAGER)
SEALFS_VOLUME=$(value SEALFS_VOLUME | cut -d'#' -f1)
SEALFS_MOUNT=$(value SEALFS_MOUNT)
root=${SEALFS_ROOT:?}/profile-$$
scratch=$(mktemp -d)
trap '"${wrap[@]}" rm -rf "$root"; rm -rf "$scratch"' EXIT
"${wrap[@]}" mkdir -p "$root"

cat >"$scratch/calls.c" <<'C'
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
static char block[1000];
static char *name(const char *directory, const char *last) {
    char *path;
    if (asprintf(&path, "%s/%s", directory, last) < 0) exit(9);
    return path;
}
static void want(int good) { if (!good) _exit(8); }
static void ended(pid_t child) { int status; want(waitpid(child, &status, 0) == child && status == 0); }

/* calls again FILE: what is executed with an empty environment. */
static int again(const char *file) {
    int fd = open(file, O_RDONLY);
    struct iovec part = {block, 10};
    for (int i = 0; i < 6; i++) want(preadv(fd, &part, 1, 0) == 10);
    return 0;
}

/* calls killed FILE: a child writes until it is killed. */
static int killed(const char *file) {
    int pipes[2], fd = open(file, O_RDWR | O_CREAT, 0644);
    want(fd >= 0 && pipe(pipes) == 0);
    pid_t child = fork();
    if (child == 0)
        for (;;) {
            want(pwrite(fd, block, 11, 0) == 11);
            want(write(pipes[1], "x", 1) == 1);
        }
    char byte;
    for (int i = 0; i < 50; i++) want(read(pipes[0], &byte, 1) == 1);
    want(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
    for (int i = 0; i < 3; i++) want(fdatasync(fd) == 0);
    want(open(name(file, "below"), O_RDONLY) < 0);
    printf("%d %d\n", getpid(), child);
    return 0;
}

/* calls MOUNTED LOCAL: the known calls. */
int main(int count, char **words) {
    if (!strcmp(words[1], "again")) return again(words[2]);
    if (!strcmp(words[1], "killed")) return killed(words[2]);
    char *file = name(words[1], "f"), *empty[] = {NULL};
    int fd = open(file, O_RDWR | O_CREAT | O_TRUNC, 0644);
    want(fd >= 0);
    for (int i = 0; i < 10; i++) want(write(fd, block, 1000) == 1000);
    for (int i = 0; i < 20; i++) want(pread(fd, block, 100, i) == 100);
    for (int i = 0; i < 5; i++) want(pread(fd, block, 100, 1 << 20) == 0);
    want(open(name(words[1], "none"), O_RDONLY) < 0);
    want(mkdir(name(words[1], "d"), 0755) == 0 && rmdir(name(words[1], "d")) == 0);
    int local = open(name(words[2], "l"), O_RDWR | O_CREAT, 0644);
    struct iovec part = {block, 10};
    for (int i = 0; i < 7; i++) want(pwritev(local, &part, 1, 0) == 10);
    char number[2] = "0";
    for (; number[0] < '3'; number[0]++) want(mkdir(name(words[2], number), 0755) == 0);
    want(dup2(local, 100) == 100 && dup2(fd, 101) == 101);
    pid_t child = fork();
    if (child == 0) {
        for (int i = 0; i < 4; i++) want(pwrite(fd, block, 11, 0) == 11);
        _exit(0);
    }
    ended(child);
    child = fork();
    if (child == 0) {
        char *list[] = {words[0], "again", file, NULL};
        execve(words[0], list, empty);
        _exit(7);
    }
    ended(child);
    return 0;
}
C
gcc -O1 -o "$scratch/calls" "$scratch/calls.c" || exit 1

passed=0 failed=0
t() { # t NAME: runs the function of that name in a subshell; it fails by `die WHY` or by its status.
    [[ $1 =~ ${PROFILE_ONLY:-.} ]] || return 0
    if why=$(export -f die one_line left "$1" && timeout -k 5 90 bash -euo pipefail -c "$1" 2>&1); then
        echo "ok   $1"
        passed=$((passed + 1))
    else
        echo "FAIL $1 (status $?): $(tail -n 3 <<<"$why" | cut -c1-400)"
        failed=$((failed + 1))
    fi
}
die() { echo "$*" >&2; exit 1; }
one_line() { # one_line TEXT COMMAND...: fails with status 1 and one line that contains TEXT
    local text=$1 out s=0
    shift
    out=$("$@" 2>&1 >/dev/null) || s=$?
    [ $s = 1 ] && [ "$(wc -l <<<"$out")" = 1 ] && [[ $out == *"$text"* ]] || die "$*: status $s: $out"
}
# The command's runtime directory, and the counters in it.
runtime=${SEALFS_RUNTIME_DIR:-/dev/shm/sealfs-$(id -u)}
left() { find "$runtime" -name 'profile-*' -newer "$scratch/calls"; }
export sealfs root scratch runtime SEALFS_WRAP

# check_counts FILE: reads the JSON of the known calls.
cat >"$scratch/check_counts" <<'PY'
import json, sys
told = json.load(open(sys.argv[1]))
calls = {call["name"]: call for call in told["calls"]}
def is_so(name, **wanted):
    call = calls.get(name, {})
    got = {key: call.get(key, call.get("kernel", {}).get(key)) for key in wanted}
    assert got == wanted, (name, got, wanted)
def either(*names):
    return next(name for name in names if name in calls)
foreign = len(sys.argv) > 2
is_so(either("openat", "open"), ours=3, errors=1)
is_so("write", calls=10, ours=10, bytes=10000, errors=0)
is_so("pread64", ours=25, bytes=2000)
is_so("pwrite64", calls=4, ours=4, bytes=44)
is_so("preadv", calls=6, ours=6, bytes=60)
is_so("rmdir", calls=1, ours=1)
if not foreign:
    assert told["programs"] == 2, told["programs"]
    is_so("pwritev", calls=7, ours=0, descriptor=7, bytes=0, total_ns=0)
    is_so("mkdir", calls=4, ours=1, path=3, errors=0)
    is_so("dup2", calls=2, ours=1, descriptor=1)
    is_so("execve", ours=0)
    # One process after the other: their calls fit into the time.
    assert sum(c["total_ns"] for c in calls.values()) < told["elapsed_ns"], told
    assert calls["pwritev"]["requests"] == 0, calls
assert calls["write"]["requests"] >= 10, calls
for call in calls.values():
    if call["ours"]:
        assert 0 < call["p50_ns"] <= call["p99_ns"] <= call["total_ns"] * 1.04, call
totals = [call["total_ns"] for call in told["calls"]]
assert totals == sorted(totals, reverse=True), totals
PY

counts-are-the-known-calls() {
    mkdir "$scratch/local"
    "$sealfs" profile --json -o "$scratch/counts" -- "$scratch/calls" "$root" "$scratch/local"
    python3 "$scratch/check_counts" "$scratch/counts"
    [ -z "$(left)" ] || die "left: $(left)"
}
table-says-the-same() {
    mkdir "$scratch/local-table"
    "$sealfs" profile -- "$scratch/calls" "$root" "$scratch/local-table" >"$scratch/out" 2>"$scratch/table"
    [ ! -s "$scratch/out" ] || die 'the table is in the way of the output'
    grep -Eq '^call +calls +ours +path +descr\. +part +errors +total +p50 +p99 +bytes +requests$' "$scratch/table"
    grep -Eq '^write +10 +10 +- +- +- +- .* 9\.7 KiB +[0-9]+$' "$scratch/table" || die "$(cat "$scratch/table")"
    grep -Eq '^pwritev +7 +- +- +7 +- ' "$scratch/table" || die "$(cat "$scratch/table")"
}
static-programs-are-counted() {
    "$(dirname "$sealfs")/sealfs-supervisor" --check >/dev/null || return 0
    mkdir "$scratch/local-static"
    gcc -O1 -static -o "$scratch/static-calls" "$scratch/calls.c"
    "$sealfs" profile --json -o "$scratch/static" -- "$scratch/static-calls" "$root" "$scratch/local-static"
    python3 "$scratch/check_counts" "$scratch/static" supervised
}
status-is-the-programs() {
    s=0
    "$sealfs" profile -o "$scratch/none" -- bash -c 'exit 7' || s=$?
    [ $s = 7 ] || die "status $s"
    s=0
    "$sealfs" profile -o "$scratch/none" -- no-such-program-here 2>/dev/null || s=$?
    [ $s = 127 ] || die "missing program: status $s"
}
what-cannot-be-written-is-said-first() {
    one_line "$scratch/no/out" "$sealfs" profile -o "$scratch/no/out" -- touch "$scratch/ran"
    SEALFS_TRACE=$scratch/no/trace one_line "$scratch/no/trace" "$sealfs" run -- touch "$scratch/ran"
    SEALFS_TRACE=$root/trace one_line "$SEALFS_MOUNT" "$sealfs" run -- touch "$scratch/ran"
    [ ! -e "$scratch/ran" ] || die 'the program was started all the same'
}
a-killed-command-leaves-its-counters-to-the-next() {
    mkfifo "$scratch/go"
    "$sealfs" profile -o "$scratch/none" -- cat "$scratch/go" &
    command=$!
    # It is there as soon as its program waits.
    exec 9>"$scratch/go"
    kill -KILL $command
    wait $command 2>/dev/null || true
    [ -n "$(left)" ] || die 'nothing is there to be removed'
    exec 9>&-
    "$sealfs" profile -o "$scratch/none" -- true
    [ -z "$(left)" ] || die "left: $(left)"
}
trace-is-json-and-outlives-a-kill() {
    from=$(python3 -c 'import time; print(time.monotonic_ns())')
    (cd "$scratch" && SEALFS_TRACE=trace.json "$sealfs" run -- "$scratch/calls" killed "$root/k" >"$scratch/pids")
    (cd / && SEALFS_TRACE=$scratch/trace.json "$sealfs" run -- env -i /bin/cat "$root/k" >/dev/null)
    python3 - "$scratch/trace.json" "$root/k" "$from" $(cat "$scratch/pids") <<'PY'
import json, sys, time
path, file, start, parent, child = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
text = open(path).read()
assert text.startswith("[\n"), text[:20]
events = json.loads(text.rstrip().rstrip(",") + "]")
last = {}
for e in events:
    assert e["ph"] == "X" and e["name"] and e["pid"] > 0 and e["tid"] > 0, e
    begin, end = e["ts"] * 1000, (e["ts"] + e["dur"]) * 1000
    assert start <= begin <= end <= time.monotonic_ns(), e
    assert last.get(e["tid"], 0) <= begin + 1, ("two calls of one thread at once", e)
    last[e["tid"]] = end
def of(pid, name):
    return [e["args"] for e in events if e["pid"] == pid and e["name"] == name]
writes = of(child, "pwrite64")
assert len(writes) >= 50 and all(a["bytes"] == 11 and a["fd"] >= 3 for a in writes), writes[:3]
assert len(of(parent, "fdatasync")) == 3, events
opens = of(parent, "openat") + of(parent, "open")
assert [a.get("errno") for a in opens] == [None, "ENOTDIR"], opens
assert [a["path"] for a in opens] == [file, file + "/below"] and opens[0]["result"] >= 3, opens
others = {e["pid"] for e in events} - {parent, child}
assert len(others) == 1, "cat, in an empty environment, appends"
PY
}
trace-shows-any-name() {
    # shellcheck disable=SC2086
    $SEALFS_WRAP SEALFS_TRACE="$scratch/names.json" python3 - "$root" <<'PY'
import os, sys
os.mkdir(os.fsencode(sys.argv[1]) + b'/"q\\\n\xff\xc3\xa4')
os.mkdir(sys.argv[1] + "/long")
try:
    os.mkdir(sys.argv[1] + "/" + "\x01" * 2000)
except OSError:
    pass
PY
    python3 - "$scratch/names.json" <<'PY'
import json, sys
events = json.loads(open(sys.argv[1]).read().rstrip().rstrip(",") + "]")
made = [e["args"]["path"] for e in events if e["name"] == "mkdir"]
assert made[0].endswith('/"q\\\n\u00ff\u00e4') and made[2].endswith("\x01" * 500), made
PY
}
what-cannot-be-traced-goes-on() {
    mkfifo "$scratch/fifo"
    for bad in relative "$scratch/fifo" "$scratch/no/trace" "$root/trace"; do
        # shellcheck disable=SC2086
        out=$($SEALFS_WRAP SEALFS_TRACE="$bad" cat /dev/null 2>&1) || die "$bad: status $?"
        [[ $out == "sealfs: SEALFS_TRACE=$bad: nothing is traced: "* ]] || die "$bad: $out"
    done
    # No signal comes of a limit on the size of files, which the trace would pass.
    head -c 100000 /dev/zero >"$scratch/large.json"
    # shellcheck disable=SC2086
    $SEALFS_WRAP SEALFS_TRACE="$scratch/large.json" bash -c "ulimit -f 50; echo x > $root/limited; cat $root/limited" | grep -qx x
}

t counts-are-the-known-calls
t table-says-the-same
t static-programs-are-counted
t status-is-the-programs
t what-cannot-be-written-is-said-first
t a-killed-command-leaves-its-counters-to-the-next
t trace-is-json-and-outlives-a-kill
t trace-shows-any-name
t what-cannot-be-traced-goes-on
echo "$passed passed, $failed failed"
[ $failed = 0 ] && [ $passed -gt 0 ]
