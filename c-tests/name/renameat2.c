/* renameat2: NOREPLACE and EXCHANGE, of files, directories and across directories; flags that do not go together. */
#include "ct.h"

static void test(void)
{
    struct stat a, b;
    ct_put("a", "A");
    ct_put("b", "B");
    mkdir("d", 0755);
    mkdir("d/sub", 0755);
    ct_put("d/in", "in");
    mkdir("e", 0755);
    T(renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_NOREPLACE));
    T(renameat2(AT_FDCWD, "a", AT_FDCWD, "c", RENAME_NOREPLACE));
    T(renameat2(AT_FDCWD, "c", AT_FDCWD, "c", RENAME_NOREPLACE));
    T(renameat2(AT_FDCWD, "none", AT_FDCWD, "b", RENAME_NOREPLACE));
    T(renameat2(AT_FDCWD, "d", AT_FDCWD, "e", RENAME_NOREPLACE));
    OK(stat("c", &a));
    T(renameat2(AT_FDCWD, "c", AT_FDCWD, "b", RENAME_EXCHANGE));
    OK(stat("b", &b));
    YES(a.st_ino == b.st_ino);
    ct_cat("b");
    ct_cat("c");
    T(renameat2(AT_FDCWD, "c", AT_FDCWD, "none", RENAME_EXCHANGE));
    T(renameat2(AT_FDCWD, "d", AT_FDCWD, "c", RENAME_EXCHANGE));
    ct_stat("c");
    ct_stat("d");
    ct_ls("c");
    T(renameat2(AT_FDCWD, "c/in", AT_FDCWD, "e", RENAME_EXCHANGE));
    ct_ls(".");
    ct_ls("c");
    ct_stat("c");
    T(renameat2(AT_FDCWD, "c", AT_FDCWD, "c/sub", RENAME_EXCHANGE));
    T(renameat2(AT_FDCWD, "c/sub", AT_FDCWD, "c", RENAME_EXCHANGE));
    T(renameat2(AT_FDCWD, "b", AT_FDCWD, "b", RENAME_EXCHANGE));
    T(renameat2(AT_FDCWD, "b", AT_FDCWD, "c", RENAME_EXCHANGE | RENAME_NOREPLACE));
    T(renameat2(AT_FDCWD, "b", AT_FDCWD, "c", 1 << 10));
    int dir = OK(open("c", O_RDONLY));
    T(renameat2(dir, "sub", AT_FDCWD, "out", RENAME_NOREPLACE));
    T(renameat(AT_FDCWD, "out", dir, "back"));
    T(renameat(AT_FDCWD, "b", 999, "x"));
    ct_ls(".");
    ct_ls("c");
    symlink("nowhere", "s");
    T(renameat2(AT_FDCWD, "s", AT_FDCWD, "d", RENAME_EXCHANGE));
    ct_stat("s");
    ct_stat("d");
}
