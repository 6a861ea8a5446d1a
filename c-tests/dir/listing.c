/* opendir, readdir, rewinddir, closedir, fdopendir, dirfd: names, types and inode numbers; dot and dot-dot. */
#include "ct.h"

static void test(void)
{
    struct stat st;
    mkdir("d", 0755);
    int dots = 0, n = 0, wrong = 0;
    ct_put("d/file", "");
    mkdir("d/sub", 0755);
    symlink("x", "d/sym");
    mkfifo("d/fifo", 0644);
    DIR *d = P(opendir("d"));
    for (struct dirent *e; (e = readdir(d)); n++) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) {
            dots++;
            continue;
        }
        OK(fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW));
        if (e->d_ino != st.st_ino || (e->d_type != DT_UNKNOWN && e->d_type != IFTODT(st.st_mode))) wrong++;
    }
    printf("%d entries, %d dots, %d wrong\n", n, dots, wrong);
    errno = 0;
    YES(readdir(d) == NULL && errno == 0);
    ct_put("d/new", "");
    rewinddir(d);
    for (n = 0; readdir(d); n++) {}
    printf("after rewinddir: %d\n", n);
    T(fcntl(dirfd(d), F_GETFD));
    T(closedir(d));
    P(opendir("none"));
    P(opendir("d/file"));
    P(opendir(""));
    int fd = OK(open("d", O_RDONLY | O_DIRECTORY));
    d = P(fdopendir(fd));
    YES(dirfd(d) == fd);
    for (n = 0; readdir(d); n++) {}
    printf("fdopendir: %d\n", n);
    closedir(d);
    T(fcntl(fd, F_GETFD));
    fd = OK(open("d/file", O_RDONLY));
    P(fdopendir(fd));
    mkdir("empty", 0755);
    d = OK(opendir("empty"));
    for (n = 0; readdir(d); n++) {}
    printf("empty: %d\n", n);
    T(rmdir("empty"));
    rewinddir(d);
    errno = 0;
    YES(readdir(d) == NULL);
    printf("removed: %s\n", errno ? ct_errname(errno) : "end");
}
