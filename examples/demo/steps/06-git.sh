# git: init, add, commit, branch, merge, gc, fsck, clone.
export GIT_AUTHOR_DATE='2026-01-01T00:00:00Z' GIT_COMMITTER_DATE='2026-01-01T00:00:00Z' GIT_CONFIG_NOSYSTEM=1 HOME=$PWD
git config --global user.name demo
git config --global user.email demo@example.org
git config --global init.defaultBranch main
git config --global gc.auto 0
mkdir repo && cd repo || exit 1
git init -q
cp -r "$SRC/." .
git add -A
git commit -qm 'first'
git rev-parse HEAD
git checkout -qb side
echo side > side.txt
git add side.txt
git commit -qm 'side'
git checkout -q main
echo main > main.txt
git add main.txt
git commit -qm 'main'
git merge -q -m 'both' side
git log --oneline | sort | sha256sum
git status --short | wc -l
git gc -q
git fsck --full --strict && echo fsck good
git count-objects -v | grep -E '^(count|packs|in-pack):'
cd ..
git clone -q repo clone
git -C clone log -1 --format=%H
diff -r --exclude=.git repo clone && echo same
git -C clone mv main.txt renamed.txt
git -C clone commit -qam 'rename'
git -C clone show --stat --format=%s HEAD
git -C clone push -q origin HEAD:from-clone
git -C repo branch | sort
rm -rf repo/.git clone/.git .gitconfig
