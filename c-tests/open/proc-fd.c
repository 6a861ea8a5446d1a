/* /proc/self/fd/N, /dev/fd/N and /dev/stdin: opening, readlink, stat and listing of descriptors. */
#include "ct.h"

static void test(void)
{
    struct stat a, b;
    char path[64], target[PATH_MAX] = "";
    ct_put("f", "content");
    int fd = OK(open("f", O_RDWR));
    T(lseek(fd, 3, SEEK_SET));
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int again = F(open(path, O_RDONLY));
    T(lseek(again, 0, SEEK_CUR));
    T(write(again, "x", 1));
    T(close(again));
    ssize_t n = OK(readlink(path, target, sizeof target - 1));
    target[n] = 0;
    printf("link: %s\n", ct_rel(target));
    T(stat(path, &a));
    T(stat("f", &b));
    YES(a.st_ino == b.st_ino && a.st_dev == b.st_dev);
    T(lstat(path, &a));
    YES(S_ISLNK(a.st_mode));
    T(access(path, R_OK));
    snprintf(path, sizeof path, "/dev/fd/%d", fd);
    ct_cat("f");
    again = F(open(path, O_WRONLY | O_APPEND));
    T(write(again, "!", 1));
    close(again);
    ct_cat("f");
    snprintf(path, sizeof path, "/proc/%d/fd/%d", getpid(), fd);
    T(stat(path, &a));
    YES(a.st_ino == b.st_ino);
    T(unlink("f"));
    n = OK(readlink(path, target, sizeof target - 1));
    target[n] = 0;
    printf("link: %s\n", ct_rel(target));
    again = F(open(path, O_RDONLY));
    ct_bytes("unlinked", target, ct_read_all(again, target, 8));
    close(again);
    int dir = OK(open(".", O_RDONLY));
    snprintf(path, sizeof path, "/proc/self/fd/%d", dir);
    n = OK(readlink(path, target, sizeof target - 1));
    target[n] = 0;
    printf("link: %s\n", ct_rel(target));
    ct_put("g", "G");
    snprintf(path, sizeof path, "/proc/self/fd/%d/g", dir);
    ct_fd("open below a directory's link", open(path, O_RDONLY));
    n = readlink("/proc/self/cwd", target, sizeof target - 1);
    target[n > 0 ? n : 0] = 0;
    printf("cwd: %s\n", ct_rel(target));
    F(open("/proc/self/cwd/g", O_RDONLY));
    int seen = 0;
    DIR *d = OK(opendir("/proc/self/fd"));
    for (struct dirent *e; (e = readdir(d));) seen += atoi(e->d_name) == fd && e->d_name[0] != '.';
    closedir(d);
    printf("listed: %d\n", seen);
}
