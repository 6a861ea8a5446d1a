/* utimensat, futimens, utimes, utime: exact values to the nanosecond, NOW, OMIT, who may. */
#include "ct.h"
#include <utime.h>

static void told(const char *path)
{
    struct stat st;
    OK(lstat(path, &st));
    printf("%s: atime %ld.%09ld mtime %ld.%09ld\n", path, st.st_atim.tv_sec, st.st_atim.tv_nsec, st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
}

static void test(void)
{
    struct timespec t[2] = {{1234567890, 123456789}, {987654321, 1}}, now[2] = {{0, UTIME_NOW}, {0, UTIME_OMIT}};
    struct stat st;
    ct_put("f", "x");
    mkdir("d", 0755);
    symlink("f", "l");
    T(utimensat(AT_FDCWD, "f", t, 0));
    told("f");
    t[0].tv_nsec = UTIME_OMIT, t[1].tv_sec = 0;
    T(utimensat(AT_FDCWD, "f", t, 0));
    told("f");
    t[0] = (struct timespec){5, 6}, t[1].tv_nsec = UTIME_OMIT;
    T(utimensat(AT_FDCWD, "f", t, 0));
    told("f");
    T(utimensat(AT_FDCWD, "f", now, 0));
    OK(stat("f", &st));
    YES(labs(st.st_atim.tv_sec - time(NULL)) < 60 && st.st_mtim.tv_sec == 0);
    T(utimensat(AT_FDCWD, "f", NULL, 0));
    OK(stat("f", &st));
    YES(labs(st.st_mtim.tv_sec - time(NULL)) < 60);
    t[0] = (struct timespec){100, 200}, t[1] = (struct timespec){300, 400};
    T(utimensat(AT_FDCWD, "l", t, AT_SYMLINK_NOFOLLOW));
    told("l");
    T(utimensat(AT_FDCWD, "l", t, 0));
    told("f");
    int fd = OK(open("f", O_RDONLY)), dir = OK(open("d", O_RDONLY));
    t[0].tv_sec = 1;
    T(futimens(fd, t));
    told("f");
    T(futimens(dir, t));
    told("d");
    T(utimensat(dir, "../f", t, 0));
    T(utimensat(dir, "", t, AT_EMPTY_PATH));
    t[0].tv_nsec = 1000000000;
    T(utimensat(AT_FDCWD, "f", t, 0));
    t[0].tv_nsec = -1;
    T(futimens(fd, t));
    t[0].tv_nsec = 0, t[0].tv_sec = -100;
    T(utimensat(AT_FDCWD, "f", t, 0));
    told("f");
    T(utimensat(AT_FDCWD, "none", t, 0));
    T(utimensat(AT_FDCWD, "f", t, 1 << 20));
    T(futimens(-1, t));
    struct timeval v[2] = {{11, 22}, {33, 44}};
    T(utimes("f", v));
    told("f");
    v[0].tv_usec = 1000000;
    T(utimes("f", v));
    struct utimbuf u = {77, 88};
    T(utime("f", &u));
    told("f");
    struct stat before;
    OK(stat("f", &before));
    YES(before.st_ctim.tv_sec > 1000000000);
    if (geteuid() == 0) {
        chmod("f", 0666);
        CHILD("nobody") {
            ct_become_nobody();
            T(utimensat(AT_FDCWD, "f", NULL, 0));
            T(utimensat(AT_FDCWD, "f", t, 0));
        }
    }
}
