/* exec closes descriptors without a word: what was locked through them is free as soon as the program runs, and still
 * locked when execve(2) fails. With any descriptor of a file go all record locks on it; those on other files are the
 * new program's, until it closes a descriptor of theirs. */
#define CT_HELPER
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

/* PROGRAM - WHAT FD HELD: what a program does that got a record lock by exec through FD; then it says so to HELD. */
static int helper(int argc, char **argv)
{
    const char *what = argv[0];
    int fd = atoi(argv[1]), held = atoi(argv[2]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!strcmp(what, "lock again")) OK(lock(OK(open("f", O_RDWR)), RECORD, 0));
    if (!strcmp(what, "close")) OK(close(fd));
    if (!strcmp(what, "close another")) OK(close(OK(open("f", O_RDONLY))));
    if (!strcmp(what, "close one of another file")) OK(close(OK(open("g", O_RDONLY))));
    if (!strcmp(what, "close an O_PATH one")) OK(close(OK(open("f", O_PATH))));
    if (!strcmp(what, "exec with close-on-exec")) {
        OK(fcntl(fd, F_SETFD, FD_CLOEXEC));
        execl("/proc/self/exe", "self", "-", "touch", argv[1], argv[2], NULL);
    }
    if (!strcmp(what, "exec once more")) execl("/proc/self/exe", "self", "-", "close", argv[1], argv[2], NULL);
    struct stat st;
    OK(stat("f", &st));
    OK(write(held, "x", 1));
    for (;;) pause();
    return argc;
}

/* A program that gets, or does not get, a record lock by exec, and does something. */
static void program(const char *what, int cloexec)
{
    int held[2], ends[2] = {0, 0};
    char c;
    OK(pipe(held));
    for (int round = 0; round < 5; round++) {
        pid_t pid = ct_fork();
        if (pid == 0) {
            char fd[12], write_end[12];
            int number = OK(open("f", O_RDWR | cloexec));
            OK(lock(number, RECORD, 1));
            snprintf(fd, sizeof fd, "%d", number);
            snprintf(write_end, sizeof write_end, "%d", held[1]);
            execl("/proc/self/exe", "self", "-", what, fd, write_end, NULL);
            _exit(100);
        }
        OK(read(held[0], &c, 1));
        int fd = OK(open("f", O_RDWR | O_CLOEXEC));
        ends[lock(fd, RECORD, 0) == 0]++;
        close(fd);
        OK(kill(pid, SIGKILL));
        OK(waitpid(pid, NULL, 0));
    }
    printf("%s%s: locked %d, free %d\n", cloexec ? "close-on-exec, " : "", what, ends[0], ends[1]);
    close(held[0]);
    close(held[1]);
}

/* Another descriptor of the file is closed, by exec. */
static void another_descriptor(int flags, int held[2])
{
    pid_t pid = ct_fork();
    if (pid == 0) {
        int fd = OK(open("f", O_RDWR));
        OK(open("f", flags | O_CLOEXEC));
        OK(lock(fd, RECORD, 1));
        OK(write(held[1], "x", 1));
        execl("/bin/sleep", "sleep", "20", NULL);
    }
    char c;
    OK(read(held[0], &c, 1));
    int fd = OK(open("f", O_RDWR | O_CLOEXEC));
    usleep(100000);
    T(lock(fd, RECORD, 0));
    end(pid);
    close(fd);
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
        given_back(kind, held);
        kept(kind, 0, "/bin/sleep", held);
        kept(kind, O_CLOEXEC, "none", held);
    }
    ct_put("g", "other file");
    program("touch", 0);
    program("touch", O_CLOEXEC);
    program("lock again", O_CLOEXEC);
    program("close", 0);
    program("close another", 0);
    program("close one of another file", 0);
    program("close an O_PATH one", 0);
    program("exec with close-on-exec", 0);
    program("exec once more", 0);
    another_descriptor(O_RDONLY, held);
    another_descriptor(O_PATH, held);
}
