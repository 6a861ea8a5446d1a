# A script and a program made executable on the volume and run from there.
cat > hello <<'TEXT'
#!/bin/bash
echo "hello from ${0##*/} with $# arguments: $*"
cd "$(dirname "$0")" && ls
exit 3
TEXT
chmod 755 hello
./hello a 'b c'
echo "status $?"
mkdir bin
cp "$(command -v cat)" bin/mycat
bin/mycat hello | sha256sum
PATH=$PWD/bin:$PATH mycat < hello | wc -l
chmod 644 hello
./hello
echo "status $?"
