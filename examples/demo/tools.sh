#!/usr/bin/env bash
# Installs the programs that the demo and the tests run, where they are missing and we may; else says what to install.
set -euo pipefail
declare -A package=([gcc]=gcc [git]=git [sqlite3]=sqlite3 [python3]=python3 [strace]=strace [getfattr]=attr
    [tar]=tar [gzip]=gzip [find]=findutils [diff]=diffutils [flock]=util-linux)
missing=()
for program in "${!package[@]}"; do
    command -v "$program" >/dev/null || missing+=("${package[$program]}")
done
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
else
    echo "please install: ${missing[*]}" >&2
    exit 1
fi
