# tar and gzip: pack the source tree, unpack it, compare; append and list.
cp -r "$SRC" tree
tar -cf t.tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner tree
sha256sum t.tar
tar -czf t.tgz tree
gzip -t t.tgz && echo good
mkdir out
tar -xzf t.tgz -C out
diff -r tree out/tree && echo same
tar -tf t.tar | sort | sha256sum
echo more > more
tar -rf t.tar --mtime=@0 --owner=0 --group=0 --numeric-owner more
tar -xOf t.tar more
gzip -9 -n -k t.tar
zcat t.tar.gz | cmp - t.tar && echo same
rm -rf t.tgz tree
