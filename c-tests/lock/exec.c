/* exec closes descriptors without a word: what was locked through them is free as soon as the program runs, and still
 * locked when execve(2) fails. */
#include "ct.h"

enum { FLOCK, OFD, RECORD };

static int lock(int fd, int kind, int wait)
{
    struct flock l = {.l_type = F_WRLCK};
    switch (kind) {
    case FLOCK: return flock(fd, LOCK_EX | (wait ? 0 : LOCK_NB));
    case OFD: return fcntl(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, &l);
    default: return fcntl(fd, wait ? F_SETLKW : F_SETLK, &l);
    }
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

/* A child that locks the file through a descriptor of its own, tells, and executes sleep(1). */
static pid_t holder(int kind, int cloexec, const char *program, int held[2])
{
    pid_t pid = ct_fork();
    if (pid == 0) {
        int fd = OK(open("f", O_RDWR | cloexec));
        OK(lock(fd, kind, 1));
        if (*program != '/') execl("/nowhere/at/all", "sleep", "20", NULL);
        OK(write(held[1], "x", 1));
        if (*program == '/') execl(program, "sleep", "20", NULL);
        for (;;) pause();
    }
    char c;
    OK(read(held[0], &c, 1));
    return pid;
}

static void end(pid_t pid)
{
    kill(pid, SIGKILL);
    ct_wait("holder", pid);
}

static void given_back(int kind, int held[2])
{
    enum { ROUNDS = 5 };
    double took = 0;
    for (int round = 0; round < ROUNDS; round++) {
        int fd = OK(open("f", O_RDWR | O_CLOEXEC));
        pid_t pid = holder(kind, O_CLOEXEC, "/bin/sleep", held);
        double from = now();
        alarm(5);
        T(lock(fd, kind, 1));
        alarm(0);
        took += now() - from;
        if (getenv("CT_TIMES")) fprintf(stderr, "kind %d: %.1f ms\n", kind, (now() - from) * 1e3);
        close(fd);
        end(pid);
    }
    /* 20 ms each, and what a busy machine adds. */
    YES(took < ROUNDS * 0.1);
}

/* The descriptor of the one who asks is made after the fork: the child would close a copy of it, and with it its
 * record locks. */
static void kept(int kind, int cloexec, const char *program, int held[2])
{
    pid_t pid = holder(kind, cloexec, program, held);
    int fd = OK(open("f", O_RDWR | O_CLOEXEC));
    usleep(100000);
    T(lock(fd, kind, 0));
    end(pid);
    T(lock(fd, kind, 1));
    close(fd);
}

static void test(void)
{
    int held[2];
    OK(pipe2(held, O_CLOEXEC));
    ct_put("f", "content");
    for (int kind = FLOCK; kind <= RECORD; kind++) {
        printf("kind %d\n", kind);
        if (kind != RECORD) given_back(kind, held);
        kept(kind, 0, "/bin/sleep", held);
        kept(kind, O_CLOEXEC, "none", held);
    }
}
