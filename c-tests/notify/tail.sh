# tail -f, -F and --pid, in the directory: what other processes append, rotate and remove.
mkdir "$1" && cd "$1" || exit 98
says() { # says FILE TEXT: waits until FILE has the line
    for _ in $(seq 100); do grep -qx "$2" "$1" && return; sleep 0.05; done
    echo "never in $1: $2"
}
echo first > f
tail -s 0.05 -f f > by-descriptor & one=$!
tail -s 0.05 -F f > by-name 2>/dev/null & other=$!
says by-descriptor first; says by-name first
echo second >> f; says by-descriptor second; says by-name second
sh -c 'printf "third\nfourth\n" >> f'; says by-descriptor fourth; says by-name fourth
mv f g; echo rotated >> g; says by-descriptor rotated
echo new > f; says by-name new
rm g; echo newer >> f; says by-name newer
kill "$one" "$other"; wait 2>/dev/null
cat by-descriptor; grep -v rotated by-name # which may have been looked at by its name before
sleep 0.3 & tail -s 0.05 -f --pid=$! f; echo "tail --pid: $?"
