# What the demo and the tests that reuse its steps share. Source it with `here` set to this folder and `scratch` to an
# empty local directory.

# The project's source tree, as the steps see it: a plain local copy.
export SRC=$scratch/src
prepare_source() {
    mkdir "$SRC"
    (cd "$here/../.." && git ls-files -z | tar -c --null -T -) 2>/dev/null | tar -x -C "$SRC" 2>/dev/null
    [ -f "$SRC/Cargo.toml" ] || (cd "$here/../.." && tar -c --exclude=./target --exclude=./.git .) | tar -x -C "$SRC"
}

manifest='cd "$1" && find . -printf "%p %y %m %l\n" | sort && find . -type f -exec sha256sum {} + | sort -k 2'

# run_step DIR STEP LOG [PREFIX...]: runs a step in DIR; LOG gets what it printed and its exit status.
run_step() {
    local dir=$1 step=$2 log=$3
    shift 3
    W=$dir timeout -k 5 "${STEP_LIMIT:-300}" "$@" bash -c 'mkdir -p "$W" && cd "$W" && . "$0"' "$step" \
        >"$log" 2>"$log.err" </dev/null
    echo "exit $?" >>"$log"
}

# keep_tree DIR LOG [PREFIX...]: adds names, modes and checksums of the tree to LOG and removes it.
keep_tree() {
    local dir=$1 log=$2
    shift 2
    "$@" bash -c "$manifest" manifest "$dir" >>"$log" 2>>"$log.err"
    "$@" rm -rf "$dir"
}

# must_be_virtual ROOT PREFIX...: ends the script unless the mount that holds ROOT is seen with the prefix and not
# without it; a library that did not load would leave everything on the kernel's own file system.
must_be_virtual() {
    local root=$1 mount
    shift
    mount=$(grep -o 'SEALFS_MOUNT=[^ ]*' <<<"$*" | cut -d= -f2-)
    [ -n "$mount" ] && [[ $root/ == "$mount"/* ]] || return 0
    if [ -e "$mount" ] || ! "$@" test -d "$mount"; then
        echo "${0##*/}: $mount is no mount of sealfs for a program started by: $*" >&2
        exit 1
    fi
}
