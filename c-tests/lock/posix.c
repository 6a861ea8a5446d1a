/* fcntl locks of processes: conflicts, splitting, upgrading, F_GETLK, loss at any close, not inherited by fork. */
#include "ct.h"

static int fd;

static int lock(int cmd, int type, int start, int length)
{
    struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    return fcntl(fd, cmd, &l);
}

static void query(const char *label, int type, int start, int length)
{
    struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    if (fcntl(fd, F_GETLK, &l) < 0) printf("%s: %s\n", label, ct_errname(errno));
    else if (l.l_type == F_UNLCK) printf("%s: free\n", label);
    else printf("%s: %s %lld+%lld held by %s\n", label, l.l_type == F_WRLCK ? "write" : "read", (long long)l.l_start,
                (long long)l.l_len, l.l_pid == getppid() ? "the parent" : l.l_pid == getpid() ? "us" : "another");
}

static void child_looks(void)
{
    CHILD("child") {
        query("0+10 write", F_WRLCK, 0, 10);
        query("0+10 read", F_RDLCK, 0, 10);
        query("12+3 write", F_WRLCK, 12, 3);
        query("100+0 write", F_WRLCK, 100, 0);
        T(lock(F_SETLK, F_WRLCK, 0, 10));
        T(lock(F_SETLK, F_RDLCK, 0, 10));
        T(lock(F_SETLK, F_WRLCK, 50, 10));
    }
}

static void test(void)
{
    fd = OK(open("f", O_CREAT | O_RDWR, 0644));
    T(lock(F_SETLK, F_WRLCK, 0, 20));
    child_looks();
    T(lock(F_SETLK, F_UNLCK, 5, 5));
    child_looks();
    T(lock(F_SETLK, F_RDLCK, 0, 20));
    child_looks();
    T(lock(F_SETLK, F_WRLCK, 100, 0));
    child_looks();
    query("own locks do not conflict", F_WRLCK, 0, 0);
    struct flock l = {.l_type = F_UNLCK, .l_whence = SEEK_END, .l_start = 0, .l_len = -1};
    T(fcntl(fd, F_SETLK, &l));
    OK(pwrite(fd, "0123456789", 10, 0));
    l = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_END, .l_start = -2, .l_len = 2};
    T(fcntl(fd, F_SETLK, &l));
    l.l_type = 99;
    T(fcntl(fd, F_SETLK, &l));
    l = (struct flock){.l_type = F_WRLCK, .l_whence = 99};
    T(fcntl(fd, F_SETLK, &l));
    l = (struct flock){.l_type = F_WRLCK, .l_start = -1};
    T(fcntl(fd, F_SETLK, &l));
    int ro = OK(open("f", O_RDONLY));
    l = (struct flock){.l_type = F_WRLCK};
    T(fcntl(ro, F_SETLK, &l));
    T(close(ro));
    puts("any close of the file drops all");
    child_looks();
    T(lockf(fd, F_TLOCK, 0));
    T(lockf(fd, F_TEST, 0));
    CHILD("lockf in a child") {
        T(lockf(fd, F_TEST, 0));
        T(lockf(fd, F_TLOCK, 0));
    }
    T(lockf(fd, F_ULOCK, 0));

    puts("the first of several in the way");
    T(lock(F_SETLK, F_WRLCK, 50, 10));
    T(lock(F_SETLK, F_RDLCK, 10, 10));
    T(lock(F_SETLK, F_WRLCK, 14, 2));
    CHILD("looks") {
        query("all", F_WRLCK, 0, 0);
        query("all to read", F_RDLCK, 0, 0);
        query("the middle", F_WRLCK, 15, 0);
    }
}
