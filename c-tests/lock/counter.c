/* A counter in a file, raised by four processes under each kind of lock, ends at the exact sum. */
#include "ct.h"

enum { PROCESSES = 4, ROUNDS = 50 };

static void take(int kind, int fd, int type)
{
    struct flock l = {.l_type = type};
    if (kind == 0) OK(fcntl(fd, F_SETLKW, &l));
    else if (kind == 1) OK(fcntl(fd, F_OFD_SETLKW, &l));
    else OK(flock(fd, type == F_UNLCK ? LOCK_UN : LOCK_EX));
}

static void test(void)
{
    static const char *names[] = {"posix", "ofd", "flock"};
    for (int kind = 0; kind < 3; kind++) {
        pid_t pids[PROCESSES];
        char text[16] = "";
        ct_put(names[kind], "0\n");
        for (int p = 0; p < PROCESSES; p++)
            if ((pids[p] = ct_fork()) == 0) {
                int fd = OK(open(names[kind], O_RDWR));
                for (int i = 0; i < ROUNDS; i++) {
                    take(kind, fd, F_WRLCK);
                    memset(text, 0, sizeof text);
                    OK(pread(fd, text, sizeof text - 1, 0));
                    int n = snprintf(text, sizeof text, "%d\n", atoi(text) + 1);
                    OK(pwrite(fd, text, n, 0));
                    take(kind, fd, F_UNLCK);
                }
                _exit(0);
            }
        for (int p = 0; p < PROCESSES; p++) ct_wait(names[kind], pids[p]);
        ct_cat(names[kind]);
    }
}
