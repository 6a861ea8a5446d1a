# A shell script: redirections, pipelines, here-documents, globs, command substitution, background jobs.
echo one > f
echo two >> f
cat < f
{ echo to-stdout; echo to-stderr >&2; } > both 2>&1
cat both
cat > here <<TEXT
a line with $((6 * 7))
and another
TEXT
tr a-z A-Z < here | sort -r | tee upper
wc -l < upper
mkdir -p deep/{a,b,c}/x
for d in deep/*/x; do echo "$d" > "$d/name"; done
shopt -s globstar nullglob
printf '%s\n' deep/**/name nothing*
exec 3> log
for i in 1 2 3; do (echo "child $i" >&3); done
bash -c 'echo "from another shell" >&3'
exec 3>&-
cat log
exec 4< f
read -r first <&4
echo "first: $first, rest: $(cat <&4)"
exec 4<&-
seq 1 5000 | awk '{ s += $1 } END { print s }' > sum & wait
cat sum
while read -r line; do echo "${#line}"; done < here
cd deep/a
echo relative > ../b/rel
cat "$OLDPWD/deep/b/rel"
pwd | sed "s#^$W#W#"
