/* Open file description locks: per description, shared by dup and fork, gone with the last close. */
#include "ct.h"

static int lock(int fd, int type, int start, int length)
{
    struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    return fcntl(fd, F_OFD_SETLK, &l);
}

static void test(void)
{
    int a = OK(open("f", O_CREAT | O_RDWR, 0644)), b = OK(open("f", O_RDWR));
    T(lock(a, F_WRLCK, 0, 10));
    T(lock(b, F_WRLCK, 5, 10));
    T(lock(b, F_RDLCK, 5, 10));
    T(lock(b, F_WRLCK, 10, 10));
    int two = dup(a);
    T(lock(two, F_WRLCK, 0, 10));
    struct flock l = {.l_type = F_WRLCK, .l_len = 100};
    T(fcntl(b, F_OFD_GETLK, &l));
    printf("type %d start %lld length %lld pid %d\n", l.l_type == F_WRLCK, (long long)l.l_start, (long long)l.l_len, l.l_pid);
    l = (struct flock){.l_type = F_WRLCK, .l_pid = 5};
    T(fcntl(b, F_OFD_SETLK, &l));
    l = (struct flock){.l_type = F_WRLCK, .l_len = 100};
    T(fcntl(b, F_SETLK, &l));
    T(fcntl(b, F_GETLK, &l));
    printf("a process asks who holds it: %d\n", l.l_pid);
    CHILD("child") {
        T(lock(a, F_WRLCK, 0, 10));
        T(lock(a, F_RDLCK, 0, 5));
    }
    T(lock(b, F_RDLCK, 0, 5));
    T(close(a));
    T(lock(b, F_WRLCK, 6, 2));
    T(close(two));
    T(lock(b, F_WRLCK, 6, 2));
    int go[2];
    char c;
    OK(pipe(go));
    int d = OK(open("f", O_RDWR));
    T(lock(d, F_WRLCK, 50, 1));
    pid_t pid = ct_fork();
    if (pid == 0) {
        OK(read(go[0], &c, 1));
        _exit(0);
    }
    T(close(d));
    puts("the child still holds the description");
    T(lock(b, F_WRLCK, 50, 1));
    OK(write(go[1], "x", 1));
    ct_wait("child", pid);
    T(lock(b, F_WRLCK, 50, 1));
}
