# What a program sees of its environment and of its own start: nothing is added, order and arguments are kept.
mkdir "$1" && cd "$1" || exit 98
env -i env
env -i A=1 B=2 env
env -i A=1 bash -c 'echo "$A"; cat < /dev/null; echo made > f; /usr/bin/env | grep -v -e ^_= -e ^PWD= -e ^SHLVL= | sort'
cat f 2>/dev/null | wc -l
bash -c 'echo "$# $0 $*"' zero one 'two three'
exec -a renamed bash -c 'echo "$0"; cd .; ls | wc -l'
