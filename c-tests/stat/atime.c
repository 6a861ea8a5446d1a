/* Access times under relatime: moved by a read only if they are not newer than the last change; O_NOATIME; links, directories. */
#include "ct.h"

static struct timespec pair(long sec) { return (struct timespec){sec, 0}; }

/* Sets atime and mtime; ctime is now, so it is newer than both. */
static void set(const char *path, long atime, long mtime)
{
    const struct timespec times[2] = {pair(atime), pair(mtime)};
    OK(utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW));
}

static void told(const char *what, const char *path, long was)
{
    struct stat st;
    OK(lstat(path, &st));
    printf("%s: atime of %s %s\n", what, path, st.st_atim.tv_sec == was ? "stays" : "moves");
}

static long later(void) { return time(NULL) + 1000; }

static void test(void)
{
    static char text[100000];
    long old = 1000000000, future = later();
    struct dirent *e;
    ct_put("f", "data");
    mkdir("d", 0755);
    ct_put("d/x", "");
    symlink("f", "l");
    int fd = OK(open("f", O_RDONLY));
    set("f", old, old);
    OK(pread(fd, text, 4, 0));
    told("read of an old one", "f", old);
    set("f", future, old);
    OK(pread(fd, text, 4, 0));
    told("read of one read after the change", "f", future);
    set("f", old, old);
    OK(pread(fd, text, 4, 100));
    told("read at the end", "f", old);
    set("f", old, old);
    OK(pread(fd, text, 0, 0));
    told("read of nothing", "f", old);
    set("f", old, old);
    OK(write(OK(open("f", O_WRONLY)), "x", 1));
    told("write", "f", old);
    set("f", old, old);
    int quiet = F(open("f", O_RDONLY | O_NOATIME));
    OK(pread(quiet, text, 4, 0));
    told("read with O_NOATIME", "f", old);
    OK(fcntl(fd, F_SETFL, O_NOATIME));
    OK(pread(fd, text, 4, 0));
    told("read with F_SETFL O_NOATIME", "f", old);
    OK(fcntl(fd, F_SETFL, 0));
    char *m = OK(mmap(NULL, 4, PROT_READ, MAP_PRIVATE, fd, 0));
    told("mmap", "f", old);
    munmap(m, 4);
    set("f", old, old);
    int big = OK(open("big", O_CREAT | O_RDWR, 0644));
    OK(ftruncate(big, 4 << 20));
    set("big", old, old);
    OK(pread(big, text, sizeof text, 3 << 20));
    told("read far behind the first chunk", "big", old);
    set("big", old, old);
    off_t from = 2 << 20;
    int out = OK(open("out", O_CREAT | O_RDWR, 0644));
    OK(sendfile(out, big, &from, 1000));
    told("sendfile", "big", old);
    set("d", old, old);
    DIR *d = opendir("d");
    told("opendir", "d", old);
    while ((e = readdir(d))) {}
    told("readdir", "d", old);
    set("d", future, old);
    rewinddir(d);
    while ((e = readdir(d))) {}
    told("readdir of one read after the change", "d", future);
    closedir(d);
    set("d", old, old);
    struct stat st;
    OK(stat("d/x", &st));
    told("a walk through it", "d", old);
    set("l", old, old);
    OK(lstat("l", &st));
    told("lstat", "l", old);
    OK(readlink("l", text, sizeof text));
    told("readlink", "l", old);
    if (geteuid() != 0) return;
    OK(chmod("f", 0666));
    CHILD("nobody") {
        ct_become_nobody();
        F(open("f", O_RDONLY | O_NOATIME));
        int own = F(open("f", O_RDONLY));
        T(fcntl(own, F_SETFL, O_NOATIME));
    }
}
