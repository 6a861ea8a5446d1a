#!/usr/bin/env bash
# Volumes under real programs: quotas, what they take, renaming, read-only, deletion.
# Needs SEALFS_BIN, SEALFS_STATE, SEALFS_WRAP and SEALFS_ROOT of an embedded cluster. VOLUMES_ONLY=REGEX picks.
set -uo pipefail
: "${SEALFS_STATE:?}" "${SEALFS_ROOT:?}"
sealfs=$(realpath "${SEALFS_BIN:?}")
value() { grep -o "$1=[^ ]*" <<<"${SEALFS_WRAP:?}" | cut -d= -f2-; }
mount=$(value SEALFS_MOUNT)
SEALFS_MANAGER=$(value SEALFS_MANAGER)
export SEALFS_MANAGER
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

passed=0 failed=0
# t NAME LIMIT: runs the function of that name in a subshell; it fails by `die WHY` or by its status.
t() {
    [[ $1 =~ ${VOLUMES_ONLY:-.} ]] || return 0
    if why=$(export -f "$1" && timeout -k 5 "$2" bash -euo pipefail -c "$1" 2>&1); then
        echo "ok   $1"
        passed=$((passed + 1))
    else
        echo "FAIL $1 (status $?): $(tail -n 3 <<<"$why" | cut -c1-300)"
        failed=$((failed + 1))
    fi
    for v in $("$sealfs" volume list | awk 'NR > 1 && $1 ~ /^vt-/ { print $1 }'); do
        "$sealfs" volume delete "$v" --force
    done
}
die() { echo "$*" >&2; exit 1; }
in_volume() { # in_volume VOLUME COMMAND...
    local v=$1
    shift
    "$sealfs" run --volume "$v" --mount "$mount" -- "$@"
}
fact() { # fact VOLUME FIELD: of `volume list`
    "$sealfs" volume list --json |
        python3 -c 'import json, sys; print(next(v for v in json.load(sys.stdin) if v["name"] == sys.argv[1])[sys.argv[2]])' "$1" "$2"
}
stored() { # bytes used on all servers
    "$sealfs" server list --json | python3 -c 'import json, sys; print(sum(s["used_bytes"] for s in json.load(sys.stdin)))'
}
soon() { # soon COMMAND...: it succeeds within 10 s
    for _ in $(seq 100); do
        ! "$@" 2>/dev/null || return 0
        sleep 0.1
    done
    die "not within 10 s: $*"
}
is() { [ "$("${@:2}")" = "$1" ]; } # is VALUE COMMAND...
at_least() { [ "$("${@:2}")" -ge "$1" ]; }
at_most() { [ "$("${@:2}")" -le "$1" ]; }
fails_with() { # fails_with TEXT COMMAND...
    local text=$1 out
    shift
    ! out=$(LC_ALL=C "$@" 2>&1) || die "$*: succeeded"
    [[ $out == *"$text"* ]] || die "$*: $out"
}
export sealfs mount scratch SEALFS_STATE SEALFS_ROOT SEALFS_WRAP
export -f die in_volume fact stored soon is at_least at_most fails_with value

usage-is-what-du-says() {
    "$sealfs" volume create vt-use
    soon is 1 fact vt-use inodes
    in_volume vt-use bash -c "cd $mount && mkdir -p a/b && for i in 1 2 3 4; do echo x > a/small\$i; done &&
        head -c 5000000 /dev/zero > a/b/big && ln -s big a/b/link && ln a/b/big a/second && mkfifo a/pipe"
    want=$(in_volume vt-use du -s --block-size=1 "$mount" | cut -f1)
    soon is "$want" fact vt-use used_bytes
    soon is 10 fact vt-use inodes
    in_volume vt-use bash -c "rm -r $mount/a"
    soon is 1 fact vt-use inodes
    soon is 4096 fact vt-use used_bytes
}
a-renamed-volume-goes-on() {
    "$sealfs" volume create vt-old
    in_volume vt-old bash -c "exec 3> $mount/f; echo one >&3; '$sealfs' volume rename vt-old vt-new >&2; echo two >&3
        cat $mount/f && ls $mount" > "$scratch/out"
    [ "$(tr '\n' ' ' < "$scratch/out")" = 'one two f ' ] || die "$(cat "$scratch/out")"
    in_volume vt-new cat "$mount/f" | grep -qx one
    fails_with vt-old in_volume vt-old true
}
read-only-at-once-and-back() {
    "$sealfs" volume create vt-ro --mode 1777
    in_volume vt-ro python3 - "$mount" "$sealfs" <<'PY'
import errno, os, subprocess, sys
root, sealfs = sys.argv[1:]
def switch(how):
    subprocess.run([sealfs, "volume", "set", "vt-ro", how], check=True)
def name(f):
    try:
        f()
        return "no error"
    except OSError as e:
        return errno.errorcode[e.errno]
f = os.open(root + "/f", os.O_RDWR | os.O_CREAT)
os.write(f, b"before")
switch("--read-only")
import time
until = time.monotonic() + 5
while name(lambda: os.write(f, b"x")) == "no error" and time.monotonic() < until:
    pass
calls = {
    "write": lambda: os.write(f, b"x"),
    "create": lambda: os.open(root + "/new", os.O_WRONLY | os.O_CREAT),
    "open": lambda: os.open(root + "/f", os.O_WRONLY),
    "mkdir": lambda: os.mkdir(root + "/d"),
    "unlink": lambda: os.unlink(root + "/f"),
    "rename": lambda: os.rename(root + "/f", root + "/g"),
    "chmod": lambda: os.chmod(root + "/f", 0o600),
    "utime": lambda: os.utime(root + "/f"),
    "truncate": lambda: os.truncate(root + "/f", 1),
    "setxattr": lambda: os.setxattr(root + "/f", "user.a", b"v"),
}
got = {call: name(f) for call, f in calls.items()}
assert set(got.values()) == {"EROFS"}, got
assert not os.access(root + "/f", os.W_OK) and os.access(root + "/f", os.R_OK)
assert os.statvfs(root).f_flag & os.ST_RDONLY
assert open(root + "/f").read().startswith("before")
switch("--read-write")
while name(lambda: os.mkdir(root + "/d")) == "EROFS" and time.monotonic() < until:
    pass
os.write(f, b"after")
assert not os.statvfs(root).f_flag & os.ST_RDONLY
PY
}
deletion-waits-for-nobody-and-gives-space-back() {
    sync
    before=$(stored)
    "$sealfs" volume create vt-del
    in_volume vt-del bash -c "head -c 60000000 /dev/urandom > $mount/f && sync"
    soon at_least $((before + 60000000)) stored
    mkfifo "$scratch/go"
    in_volume vt-del bash -c "exec 3< $mount/f; read -r < '$scratch/go'; LC_ALL=C cat <&3 > /dev/null" 2> "$scratch/err" &
    soon is 1 fact vt-del clients
    fails_with 'in use' "$sealfs" volume delete vt-del
    "$sealfs" volume delete vt-del --force
    echo > "$scratch/go"
    ! wait $! || die 'the program read a deleted volume'
    grep -qE 'Stale file handle|No such (file|device)' "$scratch/err" || die "$(cat "$scratch/err")"
    soon at_most $((before + 1000000)) stored
}

quota-by-dd-and-rm() {
    "$sealfs" volume create vt-quota --quota 20M
    [ "$(in_volume vt-quota stat -f -c '%b %s' "$mount")" = '5120 4096' ] || die "$(in_volume vt-quota stat -f "$mount")"
    full() { fails_with 'Disk quota exceeded' in_volume vt-quota dd if=/dev/zero of="$mount/$1" bs=64K status=none; }
    full a
    [ "$(in_volume vt-quota du -s --block-size=1 "$mount" | cut -f1)" -le 20971520 ] || die 'more than the quota'
    [ "$(in_volume vt-quota stat -c %s "$mount/a")" -ge 20700000 ] || die 'refused early'
    [ "$(in_volume vt-quota stat -f -c %a "$mount")" -le 32 ] || die 'statfs shows room'
    # To the last block.
    fails_with 'Disk quota exceeded' in_volume vt-quota dd if=/dev/zero of="$mount/a" bs=4K oflag=append conv=notrunc status=none
    [ "$(in_volume vt-quota stat -f -c %a "$mount")" = 0 ] || die 'statfs shows room'
    fails_with 'Disk quota exceeded' in_volume vt-quota mkdir "$mount/d"
    in_volume vt-quota rm "$mount/a"
    full b
    [ "$(in_volume vt-quota stat -c %s "$mount/b")" -ge 20700000 ] || die 'what was removed is not free'
    in_volume vt-quota truncate -s 10M "$mount/b"
    in_volume vt-quota dd if=/dev/zero of="$mount/c" bs=1M count=9 status=none
    "$sealfs" volume resize vt-quota --quota 30M
    in_volume vt-quota dd if=/dev/zero of="$mount/d" bs=1M count=9 status=none
    full e
    [ "$(fact vt-quota quota_bytes)" = 31457280 ]
}
a-write-that-fits-in-part-is-short() {
    "$sealfs" volume create vt-edge --quota 20M
    in_volume vt-edge python3 - "$mount" <<'END'
import errno, os, sys
BLOCKS = 20 * 256 - 1  # the root takes one
place = sys.argv[1] + "/"
data = os.urandom(7 << 20)
def fill(name, step, flags, left=BLOCKS, write=None, exact=True):
    fd = os.open(place + name, os.O_CREAT | os.O_RDWR | flags)
    end = shorts = 0
    try:
        while True:
            count = write(fd, end, step) if write else os.write(fd, data[:step])
            assert 0 < count <= step, count
            end, shorts = end + count, shorts + (count < step)
    except OSError as e:
        assert e.errno == errno.EDQUOT, e
    size = os.fstat(fd).st_size
    assert size == end and shorts > 0, (name, size, end, shorts)
    assert size == left * 4096 or not exact and size <= left * 4096, (name, size)
    for at in range(0, size, step if not write else 1 << 20):
        assert os.pread(fd, 4096, at) == data[:min(4096, size - at)], (name, at)
    os.close(fd)
    os.unlink(place + name)
fill("write", 1 << 20, 0)
fill("append", 1 << 20, os.O_APPEND)
fill("many chunks", 7 << 20, 0, exact=False)
source = os.open(place + "source", os.O_CREAT | os.O_RDWR)
os.write(source, data[:1 << 20])
fill("copy", 1 << 20, 0, BLOCKS - 256, lambda fd, end, step: os.copy_file_range(source, fd, step, 0, end))
END
}
gaps-behind-what-was-refused-are-zeros() {
    "$sealfs" volume create vt-gap --quota 20M
    in_volume vt-gap python3 - "$mount" <<'END'
import errno, os, sys
place = sys.argv[1] + "/"
data = b"x" * (8 << 20)
for flags in (os.O_APPEND, 0):
    spare = os.open(place + "spare", os.O_CREAT | os.O_RDWR)
    os.write(spare, data)
    fd = os.open(place + "f", os.O_CREAT | os.O_RDWR | flags)
    try:
        while os.write(fd, data):
            pass
        assert False
    except OSError as e:
        assert e.errno == errno.EDQUOT, e
    size = os.fstat(fd).st_size
    os.close(fd)
    os.close(spare)
    os.unlink(place + "spare")
    gap = 7 << 20
    fd = os.open(place + "f", os.O_RDWR)
    assert os.pwrite(fd, b"end", size + gap) == 3
    assert os.pread(fd, gap + 9, size) == bytes(gap) + b"end", flags
    assert os.pread(fd, size, 0) == (data * 3)[:size]
    os.close(fd)
    os.unlink(place + "f")
END
}
inode-quota-by-touch() {
    "$sealfs" volume create vt-inodes --inodes 101
    in_volume vt-inodes bash -c "cd $mount && mkdir d && for i in \$(seq 99); do : > d/\$i; done"
    fails_with 'Disk quota exceeded' in_volume vt-inodes touch "$mount/d/x"
    fails_with 'Disk quota exceeded' in_volume vt-inodes ln -s y "$mount/d/x"
    in_volume vt-inodes ln "$mount/d/1" "$mount/d/second"
    [ "$(in_volume vt-inodes stat -f -c '%c %d' "$mount")" = '101 0' ]
    in_volume vt-inodes bash -c "rm $mount/d/5 && mkdir $mount/d/x"
}
many-programs-fill-one-quota() {
    "$sealfs" volume create vt-many --quota 40M
    for i in 1 2 3 4; do
        in_volume vt-many dd if=/dev/urandom of="$mount/f$i" bs=256K 2> "$scratch/dd$i" &
    done
    wait
    for i in 1 2 3 4; do
        grep -q 'Disk quota exceeded' "$scratch/dd$i" || die "$(cat "$scratch/dd$i")"
    done
    total=$(in_volume vt-many du -s --block-size=1 "$mount" | cut -f1)
    [ "$total" -le 41943040 ] && [ "$total" -ge 40000000 ] || die "$total of 41943040"
    soon is "$total" fact vt-many used_bytes
}

chunk-size-of-a-directory() {
    "$sealfs" volume create vt-chunks --chunk-size 1M
    in_volume vt-chunks bash -c "mkdir $mount/d && head -c 300000 /dev/zero > $mount/d/before"
    size() { "$sealfs" chunk-size "vt-chunks:/$1"; }
    [ "$(size d)" = 1048576 ]
    "$sealfs" chunk-size vt-chunks:/d 64K
    in_volume vt-chunks bash -c "mkdir $mount/d/sub && seq 100000 > $mount/d/sub/f && seq 100000 | cmp - $mount/d/sub/f"
    [ "$(size d) $(size d/sub) $(size d/sub/f) $(size d/before)" = '65536 65536 65536 1048576' ] || die "$(size d/sub/f)"
    fails_with 'Not a directory' "$sealfs" chunk-size vt-chunks:/d/before 64K
    s=0
    "$sealfs" chunk-size vt-chunks:/d 100K 2> /dev/null || s=$?
    [ $s = 2 ] || die "status $s"
}

t chunk-size-of-a-directory 60
t quota-by-dd-and-rm 90
t a-write-that-fits-in-part-is-short 90
t gaps-behind-what-was-refused-are-zeros 90
t inode-quota-by-touch 60
t many-programs-fill-one-quota 90
t usage-is-what-du-says 60
t a-renamed-volume-goes-on 60
t read-only-at-once-and-back 60
t deletion-waits-for-nobody-and-gives-space-back 90
echo "$passed passed, $failed failed"
[ $failed = 0 ] && [ $passed -gt 0 ]
