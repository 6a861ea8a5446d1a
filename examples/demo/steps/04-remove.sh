# rm -rf of a whole tree, and of names that need care.
cp -r "$SRC" tree
find tree | wc -l
rm -rf tree
ls -A
mkdir -p a/b/c/d "with blank"
touch -- a/b/c/d/file 'with blank/ * ' -dash '?'
ls -AR | sort
rm -r -- a -dash 'with blank' '?'
rmdir a
ls -A | wc -l
