#!/usr/bin/env bash
# The strace oracle: while the demo's steps run on the mount, no path-taking system call has a path argument below it.
# Needs SEALFS_WRAP and SEALFS_ROOT (a directory below the mount); XTASK names the xtask binary if it is built.
set -uo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
here=$top/examples/demo
scratch=$(mktemp -d)
chmod 755 "$scratch"
trap 'rm -rf "$scratch"' EXIT
. "$here/common.sh"
read -ra wrap <<<"${SEALFS_WRAP:?}"
mount=$(grep -o 'SEALFS_MOUNT=[^ ]*' <<<"$SEALFS_WRAP")
mount=${mount#*=}
prepare_source
must_be_virtual "$SEALFS_ROOT" "${wrap[@]}"
xtask=${XTASK:-cargo xtask}

passed=0 failed=0
for step in "$here"/steps/*.sh; do
    name=$(basename "$step" .sh)
    [[ $name =~ ${ORACLE_ONLY:-.} ]] || continue
    STEP_LIMIT=600 run_step "$SEALFS_ROOT/oracle-$name" "$step" "$scratch/log" \
        strace -f -qq -y -s 4200 -e trace=%file,bind,connect,fanotify_mark,open_tree -e signal=none \
        -o "$scratch/trace" "${wrap[@]}"
    run_step "$scratch/local" "$step" "$scratch/local.log"
    rm -rf "$scratch/local"
    if ! cmp -s "$scratch/local.log" "$scratch/log"; then
        echo "FAIL $name: under strace it does something else"
        diff "$scratch/local.log" "$scratch/log" | head -5
        tail -n 3 "$scratch/log.err"
        failed=$((failed + 1))
    elif (cd "$top" && $xtask oracle --mount "$mount" "$scratch/trace") >"$scratch/verdict"; then
        echo "ok   $name: $(tail -n 1 "$scratch/verdict")"
        passed=$((passed + 1))
    else
        echo "FAIL $name"
        head -20 "$scratch/verdict"
        failed=$((failed + 1))
    fi
    "${wrap[@]}" rm -rf "$SEALFS_ROOT/oracle-$name"
done
echo "$passed passed, $failed failed"
[ $failed = 0 ] && [ $passed -gt 0 ]
