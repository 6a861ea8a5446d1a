/* chown, fchown, lchown, fchownat: changes, -1 keeps, set-id bits go, links, who may. */
#include "ct.h"

static void told(const char *path)
{
    struct stat st;
    OK(lstat(path, &st));
    printf("%s: %u:%u %04o\n", path, st.st_uid, st.st_gid, st.st_mode & 07777);
}

static void test(void)
{
    ct_put("f", "x");
    mkdir("d", 0755);
    symlink("f", "l");
    if (geteuid() != 0) {
        puts("not root: nothing to compare");
        return;
    }
    T(chown("f", 1000, 2000));
    told("f");
    T(chown("f", -1, 3000));
    told("f");
    T(chown("f", 4000, -1));
    told("f");
    T(chown("f", -1, -1));
    told("f");
    T(chown("l", 5, 6));
    told("f");
    told("l");
    T(lchown("l", 7, 8));
    told("f");
    told("l");
    int fd = OK(open("f", O_RDONLY)), dir = OK(open("d", O_RDONLY));
    T(fchown(fd, 9, 10));
    T(fchown(dir, 11, 12));
    T(fchownat(AT_FDCWD, "l", 13, 14, AT_SYMLINK_NOFOLLOW));
    T(fchownat(fd, "", 15, 16, AT_EMPTY_PATH));
    told("f");
    told("d");
    told("l");
    T(chmod("f", 06755));
    T(chown("f", 20, 20));
    told("f");
    T(chmod("f", 06745));
    T(chown("f", -1, 21));
    told("f");
    T(chmod("d", 06755));
    T(chown("d", 22, 22));
    told("d");
    T(chown("none", 1, 1));
    T(fchown(-1, 1, 1));
    T(chown("f/x", 1, 1));
    T(fchownat(AT_FDCWD, "f", 1, 1, 1 << 20));
    T(chown(".", CT_NOBODY, CT_NOBODY));
    CHILD("nobody") {
        ct_become_nobody();
        ct_put("own", "");
        T(chown("own", 0, -1));
        T(chown("own", CT_NOBODY, CT_NOBODY));
        T(chown("own", -1, 0));
        T(chown("f", CT_NOBODY, -1));
        T(chmod("f", 0777));
        T(chmod("own", 06711));
        told("own");
        T(chown("own", CT_NOBODY, CT_NOBODY));
        told("own");
    }
}
