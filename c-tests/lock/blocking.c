/* F_SETLKW, OFD and flock waits: the waiter goes on when the holder unlocks, closes or is killed; order is kept. */
#include "ct.h"

static int ready[2], go[2];

static void told(const char *text) { OK(write(ready[1], text, 1)); }
static void heard(void) { char c; OK(read(ready[0], &c, 1)); }

static int take(int fd, int kind)
{
    struct flock l = {.l_type = F_WRLCK};
    if (kind == 0) return fcntl(fd, F_SETLKW, &l);
    if (kind == 1) return fcntl(fd, F_OFD_SETLKW, &l);
    return flock(fd, LOCK_EX);
}

static void drop(int fd, int kind)
{
    struct flock l = {.l_type = F_UNLCK};
    if (kind == 0) OK(fcntl(fd, F_SETLK, &l));
    else if (kind == 1) OK(fcntl(fd, F_OFD_SETLK, &l));
    else OK(flock(fd, LOCK_UN));
}

/* The child holds the lock and releases it in one of three ways while we wait for it. */
static void round_of(int kind, int way)
{
    static const char *kinds[] = {"posix", "ofd", "flock"}, *ways[] = {"unlock", "close", "kill"};
    int fd = OK(open("f", O_CREAT | O_RDWR, 0644));
    pid_t pid = ct_fork();
    if (pid == 0) {
        int own = OK(open("f", O_RDWR));
        OK(take(own, kind));
        OK(pwrite(own, "held", 4, 0));
        told("h");
        struct timespec pause = {0, 100000000};
        nanosleep(&pause, NULL);
        OK(pwrite(own, "done", 4, 0));
        if (way == 0) drop(own, kind);
        else if (way == 1) close(own);
        else raise(SIGKILL);
        char c;
        OK(read(go[0], &c, 1));
        _exit(0);
    }
    heard();
    int r = take(fd, kind);
    char text[4];
    OK(pread(fd, text, 4, 0));
    printf("%s, holder %s: %d, file says %.4s\n", kinds[kind], ways[way], r, text);
    if (way < 2) OK(write(go[1], "x", 1));
    ct_wait("holder", pid);
    close(fd);
}

static void test(void)
{
    OK(pipe(ready));
    OK(pipe(go));
    for (int kind = 0; kind < 3; kind++)
        for (int way = 0; way < 3; way++) round_of(kind, way);
}
