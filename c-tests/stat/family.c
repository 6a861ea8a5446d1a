/* stat, lstat, fstat, fstatat: types, links, sizes, flags, and that all roads name the same inode. */
#include "ct.h"

static void test(void)
{
    struct stat a, b;
    ct_put("f", "12345");
    mkdir("d", 0750);
    symlink("f", "l");
    symlink("none", "dang");
    link("f", "d/hard");
    mkfifo("p", 0600);
    ct_stat("f");
    ct_stat("d");
    ct_stat("l");
    ct_stat("dang");
    ct_stat("p");
    ct_stat("none");
    T(stat("l", &a));
    T(stat("f", &b));
    YES(a.st_ino == b.st_ino && a.st_dev == b.st_dev);
    T(lstat("l", &a));
    YES(a.st_ino != b.st_ino && a.st_dev == b.st_dev);
    T(stat("d/hard", &a));
    YES(a.st_ino == b.st_ino && a.st_nlink == 2);
    int fd = OK(open("f", O_RDONLY));
    T(fstat(fd, &a));
    YES(a.st_ino == b.st_ino && a.st_size == 5);
    YES(a.st_uid == geteuid() && a.st_gid == getegid());
    YES(a.st_blksize > 0 && a.st_blksize % 512 == 0);
    int dir = OK(open("d", O_RDONLY));
    T(fstatat(dir, "hard", &a, 0));
    YES(a.st_ino == b.st_ino);
    T(fstatat(dir, "../l", &a, AT_SYMLINK_NOFOLLOW));
    YES(S_ISLNK(a.st_mode));
    T(fstatat(fd, "", &a, AT_EMPTY_PATH));
    YES(a.st_ino == b.st_ino);
    T(fstatat(fd, "", &a, 0));
    T(fstatat(fd, "x", &a, 0));
    T(fstatat(AT_FDCWD, "", &a, AT_EMPTY_PATH));
    T(stat(".", &b));
    YES(a.st_ino == b.st_ino && S_ISDIR(b.st_mode));
    T(fstatat(dir, "hard", &a, 1 << 30));
    T(fstatat(999, "f", &a, 0));
    T(fstat(-1, &a));
    T(stat("dang", &a));
    T(stat("f/x", &a));
    T(stat("d/../d/..", &a));
    YES(a.st_ino == b.st_ino);
    ct_put("f", "");
    OK(fstat(fd, &a));
    YES(a.st_size == 0 && a.st_blocks == 0);
}
