/* access, faccessat, euidaccess: root's and another user's answers; real against effective ids. */
#include "ct.h"

static void table(const char *who)
{
    const char *paths[] = {"r", "w", "x", "rwx", "none-at-all", "closed/in", "closed", "dir", "none", "l", "dang"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        printf("%s %s:", who, paths[i]);
        for (int mode = 0; mode < 8; mode++)
            printf(" %s", access(paths[i], mode) ? ct_errname(errno) : "0");
        puts("");
    }
}

static void test(void)
{
    ct_put("r", "");
    ct_put("w", "");
    ct_put("x", "");
    ct_put("rwx", "");
    ct_put("none-at-all", "");
    chmod("r", 0444);
    chmod("w", 0222);
    chmod("x", 0111);
    chmod("rwx", 0777);
    chmod("none-at-all", 0);
    mkdir("closed", 0700);
    ct_put("closed/in", "");
    mkdir("dir", 0755);
    symlink("r", "l");
    symlink("none", "dang");
    table("we");
    T(access("r", 99));
    T(access("r/x", F_OK));
    T(access("", F_OK));
    int dir = OK(open("dir", O_RDONLY));
    T(faccessat(dir, "../r", R_OK, 0));
    T(faccessat(AT_FDCWD, "dang", F_OK, AT_SYMLINK_NOFOLLOW));
    T(faccessat(999, "r", R_OK, 0));
    T(faccessat(AT_FDCWD, "r", R_OK, 1 << 20));
    if (geteuid() != 0) return;
    CHILD("nobody") {
        ct_become_nobody();
        table("nobody");
    }
    CHILD("effective nobody") {
        OK(setegid(CT_NOBODY));
        OK(seteuid(CT_NOBODY));
        T(access("none-at-all", R_OK));
        T(faccessat(AT_FDCWD, "none-at-all", R_OK, AT_EACCESS));
        T(euidaccess("none-at-all", R_OK));
        T(eaccess("r", R_OK));
        F(open("none-at-all", O_RDONLY));
        OK(seteuid(0));
        F(open("none-at-all", O_RDONLY));
    }
}
