#!/usr/bin/env bash
# Programs that no library is loaded into (static, musl, Go) do on the mount what they do on a local directory: busybox's
# shell and tools, system calls of a program's own, threads, children, signals. Started by `sealfs run`, by a covered
# program, and out of the mount. What the supervisor's end means is said.
# Needs SEALFS_BIN, SEALFS_WRAP and SEALFS_ROOT of an embedded cluster.
set -uo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
sealfs=$(realpath "${SEALFS_BIN:?}")
read -ra wrap <<<"${SEALFS_WRAP:?}"
value() { grep -o "$1=[^ ]*" <<<"$SEALFS_WRAP" | cut -d= -f2-; }
run=("$sealfs" run --manager "$(value SEALFS_MANAGER)" --volume "$(value SEALFS_VOLUME | cut -d'#' -f1)" --mount "$(value SEALFS_MOUNT)" --)
root=${SEALFS_ROOT:?}/supervised-$$
scratch=$(mktemp -d)
trap '"${wrap[@]}" rm -rf "$root"; rm -rf "$scratch"' EXIT
supervisor=$(dirname "$sealfs")/sealfs-supervisor

if ! why=$("$supervisor" --check); then
    echo "skipped: no program can be supervised here: $why"
    exit 0
fi
missing=()
command -v busybox >/dev/null || missing+=(busybox-static)
command -v musl-gcc >/dev/null || missing+=(musl-tools)
if [ ${#missing[@]} -gt 0 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >/dev/null 2>&1 || true
fi

passed=0 failed=0
verdict() { # verdict NAME WHY: empty WHY is good
    if [ -z "$2" ]; then echo "ok   $1"; passed=$((passed + 1)); else echo "FAIL $1: $2"; failed=$((failed + 1)); fi
}
# same NAME PROGRAM ARGUMENTS...: prints and ends alike in a local directory and on the mount, both named @ in ARGUMENTS;
# there under `sealfs run`, and once more as what a covered program executes.
same() {
    local name=$1 way where=$scratch/local why= print="$scratch/$1"
    shift
    mkdir "$where"
    timeout -k 5 60 "${@//@/$where}" >"$print.local" 2>&1 </dev/null
    echo "exit $?" >>"$print.local"
    rm -rf "$where"
    for way in run covered; do
        local prefix=("${run[@]}")
        [ $way = covered ] && prefix=("${wrap[@]}" env)
        "${wrap[@]}" mkdir -p "$root"
        timeout -k 5 60 "${prefix[@]}" "${@//@/$root}" >"$print.$way" 2>&1 </dev/null
        echo "exit $?" >>"$print.$way"
        sed -i "s#$root#$where#g" "$print.$way"
        cmp -s "$print.local" "$print.$way" || why="$why $way: $(diff "$print.local" "$print.$way" | head -5)"
        "${wrap[@]}" rm -rf "$root"
    done
    verdict "$name" "$why"
}

# ---- busybox ----------------------------------------------------------------------------------------------------------
cat >"$scratch/shell.sh" <<'STEP'
cd "$1" || exit 98
mkdir -p tree/a/b && echo one >tree/a/one && echo two >>tree/a/one && cat tree/a/one
for i in 1 2 3 4 5; do echo "line $i"; done | sed 's/line/row/' | tee tree/rows | wc -l
tr a-z A-Z <tree/rows | cat >upper; cat upper >>tree/rows; cat tree/rows
(cd tree/a/b && pwd && echo deep >../deep && cat ../deep)
cp tree/a/one tree/copy && cp -r tree/a tree/again && ls -R tree
ls -l tree/a | awk '{ print $1, $2, $5, $NF }'
find tree -type f | sort
mv tree/again tree/moved && mv tree/copy . && find . | sort
tar -c -f all.tar tree && tar -t -f all.tar | sort && mkdir out && tar -x -f all.tar -C out && diff -r tree out/tree && echo alike
gzip -k all.tar && zcat all.tar.gz | cmp - all.tar && echo same bytes
ln -s tree/a/one link && readlink link && cat link && ln tree/a/one hard && stat -c '%h %s %F' hard
sed -i s/one/1/ tree/a/one && cat hard link
head -c 300000 /dev/zero | tr '\0' x >big && wc -c <big && dd if=big of=part bs=1000 skip=10 count=5 2>/dev/null && wc -c part
exec 5<tree/rows; read -r first <&5; echo "$first"; read -r second <&5; echo "$second"; exec 5<&-
exec 6>held; rm held; echo unseen >&6; exec 6>&-; ls held
echo $(cat "$1/tree/a/deep") "$(ls "$1" | tr '\n' ' ')"
test -d tree && test ! -e nothing && [ -s big ] && echo tests hold
chmod 640 copy && stat -c %a copy && touch -d '2001-02-03 04:05:06' copy && stat -c %Y copy
rm -r tree out && rmdir tree; rm nothing; cat nothing
cd .. && ls -d "$1" && cd / && rm -r "$1"/[a-z]* && ls -a "$1"
exit 3
STEP
chmod +x "$scratch/shell.sh"
if command -v busybox >/dev/null && ! ldd "$(command -v busybox)" >/dev/null 2>&1; then
    same busybox busybox sh "$scratch/shell.sh" @
    { echo "#!$(command -v busybox) sh" && cat "$scratch/shell.sh"; } >"$scratch/script"
    chmod +x "$scratch/script"
    same "a script of busybox's" "$scratch/script" @
    same "tools of the system below busybox" busybox sh -c 'cd @ && /bin/ls -la | wc -l && date >d && /bin/cat d | wc -l && bash -c "echo more >>d; wc -l <d"'
else
    echo "skipped: busybox-static is not there and could not be installed"
fi

# ---- system calls of a program's own --------------------------------------------------------------------------------------
gcc -O1 -Wall -static -pthread -DRAW -o "$scratch/raw" "$top/c-tests/supervisor.c" || exit 1
same "raw system calls" "$scratch/raw" @/d "$scratch/raw"
if command -v musl-gcc >/dev/null; then
    musl-gcc -O1 -pthread -static -o "$scratch/musl-static" "$top/c-tests/supervisor.c" || exit 1
    musl-gcc -O1 -pthread -o "$scratch/musl" "$top/c-tests/supervisor.c" || exit 1
    same "musl, static" "$scratch/musl-static" @/d "$scratch/musl-static"
    same "musl, its loader" "$scratch/musl" @/d "$scratch/musl"
else
    echo "skipped: musl-tools are not there and could not be installed"
fi
if command -v go >/dev/null; then
    (cd "$scratch" && GOCACHE=$scratch/cache GOFLAGS=-mod=mod CGO_ENABLED=0 go build -o go "$top/c-tests/supervisor.go") || exit 1
    same "Go" "$scratch/go" @/d
else
    echo "skipped: no Go compiler"
fi

children=("${run[@]}" "$scratch/raw" ended 3000)
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then # without root the supervisor may not hurry
    mkdir -m 777 "$scratch/home"
    chmod 755 "$scratch"
    children=(setpriv --reuid 65534 --regid 65534 --clear-groups env -u SEALFS_RUNTIME_DIR "HOME=$scratch/home" "${children[@]}")
fi
said=$("${children[@]}" 2>&1)
verdict "no call is ended by a child's end" "$([ "$said" = "0 ended" ] || echo "$said")"

# ---- out of the mount, beside it, and the end --------------------------------------------------------------------------------
"${wrap[@]}" sh -c 'mkdir -p "$1" && cp "$2" "$1/program" && cd "$1" && ./program "$1/d" "$1/program"' probe "$root" "$scratch/raw" >"$scratch/mount" 2>&1
"$scratch/raw" "$scratch/d" "$scratch/raw" >"$scratch/plain" 2>&1
rm -rf "$scratch/d"
verdict "a static program of the volume" "$(diff "$scratch/plain" "$scratch/mount" | head -5)"

ended() { # ended SIGNAL STATUS: what the shell says of a program that the signal ended; who runs us may ignore it
    "${wrap[@]}" env --default-signal "$scratch/raw" wait "$root/ended" >"$scratch/said" 2>&1 &
    local job=$! left=100 status
    until grep -q open "$scratch/said" || [ $((left -= 1)) = 0 ]; do sleep 0.05; done
    kill "-$1" $job
    wait $job
    status=$?
    [ $status = "$2" ] && kill -0 $job 2>/dev/null && echo "lives on"
    [ $status = "$2" ] || echo "status $status: $(cat "$scratch/said")"
}
verdict "SIGTERM ends it" "$(ended TERM 143 2>/dev/null)"
verdict "SIGINT ends it" "$(set -m; ended INT 130 2>/dev/null)"
verdict "SIGKILL ends it" "$(ended KILL 137 2>/dev/null)"

"${run[@]}" sh -c 'exec "$0" wait "$1"' "$scratch/raw" "$root/orphaned" >"$scratch/said" 2>&1 &
job=$!
left=100
until grep -q open "$scratch/said" || [ $((left -= 1)) = 0 ]; do sleep 0.05; done
for pid in $(pgrep -x sealfs-supervis); do
    grep -qzx "$root/orphaned" "/proc/$pid/cmdline" && kill -9 "$pid"
done 2>/dev/null
left=100
until grep -q ENOSYS "$scratch/said" || [ $((left -= 1)) = 0 ]; do sleep 0.05; done
grep -q 'supervisor.*was killed.*ENOSYS' "$scratch/said" && why= || why="said: $(cat "$scratch/said")"
kill $job
wait $job
verdict "the end of the supervisor is told" "$why"

cp "$scratch/raw" "$scratch/rights" && chmod u+s "$scratch/rights" && [ "$(id -u)" = 0 ] && chown nobody "$scratch/rights" && chmod u+s "$scratch/rights"
if [ "$(id -u)" = 0 ]; then
    said=$("${run[@]}" "$scratch/rights" x y 2>&1)
    status=$?
    [ $status = 126 ] && [[ $said == *"rights of another user"* ]] && why= || why="status $status, said: $said"
    verdict "a setuid program is refused with a word" "$why"
fi
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
    said=$("${wrap[@]}" sh -c 'grep NoNewPrivs /proc/self/status')
    [[ $said == *0 ]] && why= || why=$said
    verdict "a covered shell keeps its way to setuid programs" "$why"
fi

echo "$passed passed, $failed failed"
[ $failed = 0 ]
