/* A wait for a lock is interrupted by a handler (EINTR), restarted with SA_RESTART, and a deadlock is seen. */
#include "ct.h"

static volatile int alarms;
static void handler(int signal) { (void)signal, alarms++; }

static void timer(void)
{
    struct itimerval t = {{0, 0}, {0, 100000}};
    setitimer(ITIMER_REAL, &t, NULL);
}

static void test(void)
{
    struct flock l = {.l_type = F_WRLCK};
    struct sigaction act = {.sa_handler = handler};
    int held[2], go[2];
    char c;
    OK(pipe(held));
    OK(pipe(go));
    int fd = OK(open("f", O_CREAT | O_RDWR, 0644));
    pid_t pid = ct_fork();
    if (pid == 0) {
        int own = OK(open("f", O_RDWR));
        OK(fcntl(own, F_SETLK, &l));
        OK(write(held[1], "x", 1));
        OK(read(go[0], &c, 1));
        _exit(0);
    }
    OK(read(held[0], &c, 1));
    OK(sigaction(SIGALRM, &act, NULL));
    timer();
    T(fcntl(fd, F_SETLKW, &l));
    printf("alarms %d\n", alarms);
    l.l_type = F_RDLCK;
    T(fcntl(fd, F_SETLK, &l));
    act.sa_flags = SA_RESTART;
    OK(sigaction(SIGALRM, &act, NULL));
    pid_t releaser = ct_fork();
    if (releaser == 0) {
        struct timespec pause = {0, 300000000};
        nanosleep(&pause, NULL);
        OK(write(go[1], "x", 1));
        _exit(0);
    }
    timer();
    T(fcntl(fd, F_SETLKW, &l));
    printf("alarms %d\n", alarms);
    ct_wait("holder", pid);
    ct_wait("releaser", releaser);
    l.l_type = F_UNLCK;
    OK(fcntl(fd, F_SETLK, &l));
    l = (struct flock){.l_type = F_WRLCK, .l_start = 0, .l_len = 1};
    OK(fcntl(fd, F_SETLK, &l));
    pid = ct_fork();
    if (pid == 0) {
        l.l_start = 1;
        OK(fcntl(fd, F_SETLK, &l));
        OK(write(held[1], "x", 1));
        l.l_start = 0;
        T(fcntl(fd, F_SETLKW, &l));
        _exit(0);
    }
    OK(read(held[0], &c, 1));
    struct timespec pause = {0, 200000000};
    nanosleep(&pause, NULL);
    l.l_start = 1;
    T(fcntl(fd, F_SETLKW, &l));
    l.l_start = 0, l.l_type = F_UNLCK;
    OK(fcntl(fd, F_SETLK, &l));
    ct_wait("child", pid);
}
