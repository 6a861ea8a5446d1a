/* Locks of a killed process are free at once, also when it held many, and its half of a file stays. */
#include "ct.h"

static void test(void)
{
    int held[2];
    char c;
    OK(pipe(held));
    for (int round = 0; round < 3; round++) {
        pid_t pid = ct_fork();
        if (pid == 0) {
            int fd = OK(open("f", O_CREAT | O_RDWR, 0644)), other = OK(open("g", O_CREAT | O_RDWR, 0644));
            for (int i = 0; i < 50; i++) {
                struct flock l = {.l_type = F_WRLCK, .l_start = i * 10, .l_len = 5};
                OK(fcntl(fd, F_SETLK, &l));
            }
            OK(flock(other, LOCK_EX));
            OK(pwrite(fd, "half", 4, round * 4));
            OK(write(held[1], "x", 1));
            for (;;) pause();
        }
        OK(read(held[0], &c, 1));
        int fd = OK(open("f", O_RDWR)), other = OK(open("g", O_RDWR));
        struct flock l = {.l_type = F_WRLCK};
        T(fcntl(fd, F_SETLK, &l));
        T(flock(other, LOCK_EX | LOCK_NB));
        kill(pid, SIGKILL);
        ct_wait("holder", pid);
        T(fcntl(fd, F_SETLKW, &l));
        T(flock(other, LOCK_EX));
        close(fd);
        close(other);
    }
    ct_cat("f");
}
