/* mkdir and rmdir: every errno, trailing slashes, dots, mkdirat, a directory in use. */
#include "ct.h"

static void test(void)
{
    T(mkdir("d", 0751));
    ct_stat("d");
    T(mkdir("d", 0755));
    T(mkdir("d/", 0755));
    T(mkdir("e/", 0755));
    T(mkdir("", 0755));
    T(mkdir(".", 0755));
    T(mkdir("..", 0755));
    T(mkdir("d/..", 0755));
    T(mkdir("none/x", 0755));
    ct_put("f", "");
    T(mkdir("f", 0755));
    T(mkdir("f/x", 0755));
    symlink("dang-target", "dang");
    T(mkdir("dang", 0755));
    symlink("d", "to-d");
    T(mkdir("to-d/in", 0755));
    int dir = OK(open("d", O_RDONLY));
    T(mkdirat(dir, "at", 0700));
    T(mkdirat(999, "at", 0700));
    T(mkdirat(OK(open("f", O_RDONLY)), "at", 0700));
    T(rmdir("d"));
    T(rmdir("d/in/"));
    T(rmdir("d/at/."));
    T(rmdir("d/at/.."));
    T(rmdir("."));
    T(rmdir(".."));
    T(rmdir(""));
    T(rmdir("none"));
    T(rmdir("f"));
    T(rmdir("to-d"));
    T(rmdir("f/x"));
    T(unlinkat(dir, "at", 0));
    T(unlinkat(dir, "at", AT_REMOVEDIR));
    T(unlinkat(dir, "at", AT_REMOVEDIR));
    T(unlinkat(AT_FDCWD, "f", AT_REMOVEDIR));
    T(unlinkat(AT_FDCWD, "f", 1 << 20));
    T(rmdir("d"));
    T(mkdirat(dir, "again", 0755));
    T(mkdir("d", 0700));
    T(mkdirat(dir, "again", 0755));
    ct_ls(".");
    ct_stat("d");
}
