/* RLIMIT_FSIZE: short write up to the limit, then SIGXFSZ or EFBIG; truncate above it. */
#include "ct.h"

static void test(void)
{
    struct rlimit limit = {1000, RLIM_INFINITY};
    static char data[2000];
    int fd = OK(open("f", O_CREAT | O_RDWR, 0644));
    T(setrlimit(RLIMIT_FSIZE, &limit));
    CHILD("without a handler") {
        OK(pwrite(fd, data, 1, 1000));
    }
    signal(SIGXFSZ, SIG_IGN);
    T(write(fd, data, 900));
    T(write(fd, data, 900));
    T(write(fd, data, 1));
    ct_stat("f");
    T(pwrite(fd, data, 1, 5000));
    T(pwrite(fd, data, 10, 995));
    T(ftruncate(fd, 1001));
    T(ftruncate(fd, 1000));
    T(truncate("f", 2000));
    T(fallocate(fd, 0, 0, 2000));
    limit.rlim_cur = RLIM_INFINITY;
    T(setrlimit(RLIMIT_FSIZE, &limit));
    T(write(fd, data, 1));
    ct_stat("f");
}
