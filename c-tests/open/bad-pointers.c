/* EFAULT, not a crash, for every call that takes a path or a structure. */
#include "ct.h"

static void test(void)
{
    ct_put("f", "data");
    int fd = OK(open("f", O_RDWR));
    int dir = OK(open(".", O_RDONLY));
    T(open(BAD, O_RDONLY));
    T(openat(dir, BAD, O_RDONLY));
    T(stat("f", BAD));
    T(stat(BAD, &(struct stat){0}));
    T(fstat(fd, BAD));
    T(lstat(BAD, &(struct stat){0}));
    T(fstatat(dir, "f", BAD, 0));
    T(access(BAD, F_OK));
    T(chmod(BAD, 0644));
    T(chown(BAD, -1, -1));
    T(mkdir(BAD, 0755));
    T(rmdir(BAD));
    T(unlink(BAD));
    T(rename("f", BAD));
    T(rename(BAD, "f"));
    T(link("f", BAD));
    T(symlink(BAD, "l"));
    T(symlink("x", BAD));
    T(symlink("f", "s"));
    T(readlink("s", BAD, 10));
    T(truncate(BAD, 0));
    T(chdir(BAD));
    T(utimensat(AT_FDCWD, "f", BAD, 0));
    T(statfs("f", BAD));
    T(fstatfs(fd, BAD));
    T(getxattr("f", BAD, NULL, 0));
    T(setxattr("f", "user.a", BAD, 4, 0));
    T(setxattr("f", "user.a", "v", 1, 0));
    T(getxattr("f", "user.a", BAD, 1));
    T(syscall(SYS_getdents64, dir, BAD, 1024));
    T(syscall(SYS_getcwd, BAD, 4096));
    T(fcntl(fd, F_GETLK, BAD));
    T(fcntl(fd, F_SETLK, BAD));
    T(mkfifo(BAD, 0644));
    ct_cat("f");
    ct_ls(".");
}
