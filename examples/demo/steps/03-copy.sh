# The project's own source tree: cp -a, mv, find, ls -lR, du, sort, diff.
cp -a "$SRC" tree
diff -r --no-dereference "$SRC" tree && echo same
find tree -type f -printf '%P %s %m\n' | sort > list
wc -l < list
find tree -name '*.rs' -exec sha256sum {} + | sort -k 2 | sha256sum
ls -lR --time-style=+%s tree | awk '!/^total/ { print $1, /^d/ ? "-" : $5, $6, $7 }' | sort | sha256sum
find tree -type f -print0 | du -ab --files0-from=- | sort -k 2 | sha256sum
mv tree moved
mv moved/docs docs
ls moved docs | sort | sha256sum
find moved -newer "$SRC/Cargo.toml" -name Cargo.toml | wc -l
ln moved/Cargo.toml hard
ln -s moved/Cargo.toml soft
cmp hard soft && stat -c '%h %F' hard soft
cp -r moved again
diff -r moved again && echo same
