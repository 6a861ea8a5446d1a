/* link and linkat: files, symlinks with and without following, directories, errnos. */
#include "ct.h"

static void test(void)
{
    struct stat a, b;
    ct_put("f", "content");
    mkdir("d", 0755);
    symlink("f", "l");
    symlink("none", "dang");
    T(link("f", "g"));
    T(link("f", "g"));
    T(link("f", "d/g"));
    ct_stat("f");
    OK(stat("f", &a));
    OK(stat("d/g", &b));
    YES(a.st_ino == b.st_ino);
    ct_put("d/g", "changed");
    ct_cat("f");
    T(link("d", "dd"));
    T(link("none", "x"));
    T(link("f", "none/x"));
    T(link("f/x", "y"));
    T(link("f", ""));
    T(link("f", "d"));
    T(link("f", "x/"));
    T(link("l", "l2"));
    ct_stat("l2");
    ct_stat("l");
    T(linkat(AT_FDCWD, "l", AT_FDCWD, "followed", AT_SYMLINK_FOLLOW));
    ct_stat("followed");
    T(link("dang", "dang2"));
    ct_stat("dang2");
    T(linkat(AT_FDCWD, "dang", AT_FDCWD, "x", AT_SYMLINK_FOLLOW));
    int dir = OK(open("d", O_RDONLY)), fd = OK(open("f", O_RDONLY));
    T(linkat(dir, "g", AT_FDCWD, "from-d", 0));
    T(linkat(AT_FDCWD, "f", dir, "into-d", 0));
    T(linkat(AT_FDCWD, "f", 999, "x", 0));
    T(linkat(AT_FDCWD, "f", fd, "x", 0));
    T(linkat(AT_FDCWD, "f", AT_FDCWD, "x", 1 << 20));
    T(linkat(fd, "", AT_FDCWD, "empty", 0));
    ct_ls(".");
    ct_ls("d");
    T(chmod("g", 0600));
    ct_stat("f");
    T(unlink("f"));
    ct_stat("g");
}
