#!/usr/bin/env bash
# What `cargo xtask storm` asks after each kill, in DIRECTORY on the mount: for each line of input a turn of small
# work on directories of all servers, by this process and by new ones, and one line of output: `good`, or what was not.
set -uo pipefail
cd "$1" || exit 1
names=(a b c d e f g h)
kept=kept
exec 9>"$kept"

# Each step is checked, so that the first that fails is told.
turn() {
    local name text previous=${names[-1]}
    mkdir "${names[@]}" || return
    for name in "${names[@]}"; do
        echo "$1 $name" >"$name/file" || return
    done
    for name in "${names[@]}"; do
        read -r text <"$name/file" && [ "$text" = "$1 $name" ] || return
        mv "$name/file" "$previous/moved" || return
        previous=$name
    done
    echo "$1" >&9 || return
    rm -r "${names[@]}"
}

n=0
while read -r _; do
    n=$((n + 1))
    if problem=$(turn $n 2>&1); then
        echo good
    else
        echo "turn $n of the probe: ${problem:-wrong bytes}"
        rm -rf "${names[@]}"
    fi
done
exec 9>&-
[ "$(wc -l <"$kept")" -eq $n ] || echo "of $n lines $(wc -l <"$kept") were kept"
