#!/usr/bin/env bash
# The library loaded and the mount untouched: real programs do on local files what they do without it.
# Needs SEALFS_WRAP. A program that is not installed is skipped and named.
set -uo pipefail
: "${SEALFS_WRAP:?}"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export HOME=$scratch LC_ALL=C GIT_CONFIG_NOSYSTEM=1
passed=0 failed=0 skipped=0

# both NAME PROGRAM SCRIPT: the script's output, status and tree are the same with and without the library.
both() {
    if ! command -v "$2" >/dev/null; then
        echo "skip $1: no $2 here"
        skipped=$((skipped + 1))
        return
    fi
    local side
    for side in plain loaded; do
        rm -rf "$scratch/work" && mkdir "$scratch/work"
        # shellcheck disable=SC2046
        (cd "$scratch/work" && timeout 120 $([ $side = plain ] || echo "$SEALFS_WRAP") bash -c "$3"; echo "exit $?"
            find . -type f ! -path '*/.git/*' -exec sha256sum {} + | sort -k 2) >"$scratch/$side" 2>&1 </dev/null
    done
    if cmp -s "$scratch/plain" "$scratch/loaded"; then
        echo "ok   $1"
        passed=$((passed + 1))
    else
        echo "FAIL $1"
        diff "$scratch/plain" "$scratch/loaded" | head -10
        failed=$((failed + 1))
    fi
}

both git git '
export GIT_AUTHOR_DATE=2026-01-01T00:00:00Z GIT_COMMITTER_DATE=2026-01-01T00:00:00Z
git -c init.defaultBranch=main init -q r && cd r && seq 1000 > f && git add f
git -c user.name=n -c user.email=e@x commit -qm one && git gc -q && git fsck --strict && git clone -q . ../c && git -C ../c log --format=%H'
both gcc gcc '
echo "#include <stdio.h>
int main(void) { puts(\"compiled\"); return 3; }" > a.c
gcc -O2 -Wl,--build-id=none -o a a.c && ./a; echo $?; gcc -c none.c; rm -f a; gcc -S -o - a.c | sha256sum'
both python3 python3 'python3 -c "
import os, subprocess, threading, multiprocessing, tempfile, socket, signal, mmap, hashlib
open(\"x\", \"w\").write(\"a\" * 100000)
with open(\"x\", \"r+b\") as f:
    m = mmap.mmap(f.fileno(), 0); m[:3] = b\"map\"; m.close()
print(subprocess.run([\"sha256sum\", \"x\"], capture_output=True).stdout)
t = [threading.Thread(target=lambda i=i: open(f\"t{i}\", \"w\").write(str(i))) for i in range(8)]
[i.start() for i in t]; [i.join() for i in t]
with multiprocessing.get_context(\"fork\").Pool(3) as p: print(p.map(abs, range(-5, 5)))
print(sorted(os.listdir(\".\")), os.getcwd() == os.path.realpath(\".\"))
"'
both node node 'node -e "
const fs = require(\"fs\"), cp = require(\"child_process\");
fs.writeFileSync(\"x\", \"y\".repeat(100000));
console.log(cp.execSync(\"sha256sum x\").toString(), fs.readdirSync(\".\"));
fs.promises.readFile(\"x\").then(b => { console.log(b.length); return fs.promises.rename(\"x\", \"z\"); }).then(() => console.log(fs.existsSync(\"z\")));
"'
both java javac 'cat > A.java <<J
import java.nio.file.*;
public class A { public static void main(String[] a) throws Exception {
  Files.writeString(Path.of("x"), "text".repeat(10000));
  System.out.println(Files.size(Path.of("x")) + " " + Files.list(Path.of(".")).count());
  Thread[] t = new Thread[4]; for (int i = 0; i < 4; i++) { int n = i; t[i] = new Thread(() -> { try { Files.writeString(Path.of("t" + n), "" + n); } catch (Exception e) { System.out.println(e); } }); t[i].start(); }
  for (Thread x : t) x.join(); } }
J
javac A.java && java -Xshare:auto A && rm -f A.class'
both perl perl 'perl -e "open F, q(>), q(x); print F qq(line \$_\\n) for 1..1000; close F; print -s q(x), qq(\\n); print scalar(\`wc -l < x\`)"'
both sqlite3 sqlite3 'sqlite3 db "CREATE TABLE t(a); INSERT INTO t SELECT 1; PRAGMA journal_mode=WAL; INSERT INTO t SELECT 2; SELECT sum(a) FROM t;"; rm -f db*'
both tar tar 'mkdir d; seq 500 > d/f; ln -s f d/l; tar -czf - d | tar -xzf - -C . --transform s/d/e/; diff -r d e && echo same'
both pipes bash 'yes | head -n 100000 | sort | uniq -c; for i in $(seq 50); do (echo $i) & done | sort -n | sha256sum; wait; echo $((RANDOM * 0)); trap "echo trapped" USR1; kill -USR1 $$'
both gdb gdb 'gdb -q -batch -ex "break main" -ex run -ex "bt 1" -ex kill /bin/true 2>/dev/null | grep -c -i "exited normally\|Breakpoint\|no debugging symbols"
sleep 20 & p=$!; gdb -q -batch -p $p -ex "detach" 2>/dev/null | grep -c -i detaching; kill $p'
both 'a program that does not exist' bash 'nothing-like-this; ./neither; bash -c "exec nothing-like-this"'
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ] && [ $passed -gt 0 ]
