# Everyday tools: touch, ln, cp, mv, install, find, stat, test, sort in place, sed -i, patch-like renames.
mkdir "$1" && cd "$1" || exit 98
touch -d '2020-02-03 04:05:06' old; stat -c '%Y %s %a' old
[ old -ot . ] && echo older
ln -s old sym; ln old hard; stat -c '%h' old; readlink sym; readlink -f sym | sed "s#^$1#D#"
install -m 750 -d dir/sub; install -m 640 old dir/sub/new; stat -c '%a %n' dir dir/sub dir/sub/new
cp -a dir copy; diff -r dir copy && echo same
for i in 3 1 2; do echo "$i"; done > n; sort -o n n; tr '\n' ' ' < n; echo
sed -i 's/2/two/' n; tr '\n' ' ' < n; echo
mv -T copy moved; mv -n n old; ls; mv --backup=numbered n old; ls
mkfifo p; (echo through > p) & cat p; wait
find . -type f -printf '%P %s\n' | sort; find . -newer hard -name 'dir' | sort
test -p p && test -L sym && test -d dir && test -r old && ! test -e nope && echo tests
df . > /dev/null && echo df; du -s . > /dev/null && echo du
echo x | dd of=d bs=1 seek=5 conv=notrunc status=none; od -An -c d
split -b 1000 -d <(seq 2000) part-; cat part-* | cmp - <(seq 2000) && echo whole; rm part-*
chmod -R go-rwx dir; stat -c %a dir/sub/new; rm -r dir moved; truncate -s 5000 t; stat -c %s t
shuf -i 1-1000 --random-source=/dev/zero > r; sort -n r | uniq -c | awk '$1 != 1' | wc -l
xargs -n 1 -P 4 touch <<< "a b c d e"; ls ?
rm -f -- *; ls -A
