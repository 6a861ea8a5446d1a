/* Watches of a directory and of what is in it, in one instance and in several: the order of what is said, and masks. */
#include "events.h"

static void test(void)
{
    int in = OK(inotify_init1(IN_CLOEXEC)), other = OK(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    char byte;
    OK(mkdir("d", 0755));
    ct_put("d/f", "text");
    OK(mkdir("d/sub", 0755));
    ev_watch(in, "d", IN_ALL_EVENTS, "d");
    ev_watch(in, "d/f", IN_ALL_EVENTS, "f");
    ev_watch(in, "d/sub", IN_ALL_EVENTS, "sub");
    YES(inotify_add_watch(other, "d/f", IN_MODIFY | IN_CLOSE_WRITE) == 1);

    int fd;
    EV(fd = open("d/f", O_RDONLY));
    EV(read(fd, &byte, 1));
    EV(pread(fd, &byte, 1, 100));
    EV(close(fd));
    EV(fd = open("d/f", O_WRONLY | O_APPEND));
    EV(write(fd, "more", 4));
    EV(write(fd, "", 0));
    EV(ftruncate(fd, 2));
    EV(fchmod(fd, 0600));
    EV(futimens(fd, NULL));
    EV(fsetxattr(fd, "user.x", "y", 1, 0));
    EV(close(fd));
    EV(chmod("d/f", 0644));
    EV(chown("d/f", getuid(), getgid()));
    EV(truncate("d/f", 1));
    struct timespec atime[] = {{1, 0}, {0, UTIME_OMIT}}, mtime[] = {{0, UTIME_OMIT}, {1, 0}}, none[] = {{0, UTIME_OMIT}, {0, UTIME_OMIT}};
    EV(utimensat(AT_FDCWD, "d/f", atime, 0));
    EV(utimensat(AT_FDCWD, "d/f", mtime, 0));
    EV(utimensat(AT_FDCWD, "d/f", none, 0));
    EV(setxattr("d/f", "user.x", "z", 1, 0));
    EV(removexattr("d/f", "user.x"));
    EV(chmod("d/sub", 0700));
    EV(chmod("d", 0700));
    EV(stat("d/f", &(struct stat){0}));
    EV(access("d/f", R_OK));
    EV(fd = open("d/f", O_PATH));
    EV(close(fd));
    EV(fd = open("d/sub", O_RDONLY | O_DIRECTORY));
    EV(close(fd));
    EV(fd = open("d", O_RDONLY | O_DIRECTORY));
    EV(close(fd));
    EV(fd = open("d/made", O_CREAT | O_RDWR, 0600));
    EV(close(fd));
    EV(link("d/f", "hard"));
    EV(unlink("hard"));
    EV(rename("d/f", "d/g"));
    EV(rename("d/sub", "d/bus"));
    EV(rename("d/bus", "sub"));
    EV(mkdir("sub/x", 0700));
    EV(rename("sub", "d/sub"));
    EV(rmdir("d/sub/x"));
    EV(rmdir("d/sub"));
    EV(rename("d/made", "d/g"));
    EV(unlink("d/g"));
    EV(rmdir("d"));
    in = other;
    ev_names[1] = "other";
    ev_print(in, "the other instance");
    OK(close(in));
}
