/* chmod, fchmod, fchmodat: all bits, by path and descriptor, through links, errnos. */
#include "ct.h"

static void test(void)
{
    ct_put("f", "x");
    mkdir("d", 0755);
    symlink("f", "l");
    T(chmod("f", 07777));
    ct_stat("f");
    T(chmod("f", 0));
    ct_stat("f");
    T(chmod("l", 0640));
    ct_stat("f");
    ct_stat("l");
    T(chmod("d", 01777));
    ct_stat("d");
    T(chmod("f", 0100000 | 0600));
    ct_stat("f");
    int fd = OK(open("f", O_RDONLY)), dir = OK(open("d", O_RDONLY));
    T(fchmod(fd, 0444));
    ct_stat("f");
    T(fchmod(dir, 0700));
    ct_stat("d");
    T(fchmodat(AT_FDCWD, "f", 0604, 0));
    T(fchmodat(dir, "../f", 0602, 0));
    ct_stat("f");
    T(fchmodat(AT_FDCWD, "l", 0600, AT_SYMLINK_NOFOLLOW));
    T(fchmodat(AT_FDCWD, "f", 0600, 1 << 20));
    T(chmod("none", 0600));
    T(chmod("f/x", 0600));
    T(chmod("", 0600));
    T(fchmod(-1, 0600));
    T(fchmodat(999, "f", 0600, 0));
    T(unlink("f"));
    T(fchmod(fd, 0123));
    struct stat st;
    OK(fstat(fd, &st));
    printf("%04o\n", st.st_mode & 07777);
}
