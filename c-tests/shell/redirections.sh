# Redirections and descriptors of bash, in the directory.
mkdir "$1" && cd "$1" || exit 98
echo one > f; echo two >> f; cat < f
{ echo out; echo err >&2; } > both 2>&1; sort both
cat <<TEXT > here
$((1 + 1)) lines
here
TEXT
cat here
set -C; (echo x > f) 2>/dev/null || echo kept; echo x >| f; set +C; cat f
printf abc > rw; exec 7<>rw; read -rn1 c <&7; printf Z >&7; exec 7>&-; cat rw; echo
exec 5> log; (echo child >&5); bash -c 'echo another >&5'; exec 6>&5; echo dup >&6; exec 5>&- 6>&-; cat log
seq 1 1000 > s; { head -n 1 > /dev/null; cat > /dev/null; } < s; wc -l < s
exec 3< s; read -r a <&3; b=$(bash -c 'read -r x; echo "$x"' <&3); echo "$a $b"; exec 3<&-
exec 4> gone; rm gone; echo "to nowhere" >&4; cat /proc/self/fd/4 <&4; exec 4>&-
diff <(sort -r s) <(sort -r s) && echo same
cat s | tee copy | tail -n 1; cmp s copy && echo same
for i in 1 2 3; do echo "$i" & done | sort
echo "$(< f)"
ls -A
