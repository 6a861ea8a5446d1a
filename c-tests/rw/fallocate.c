/* fallocate: default, KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE, bad modes; posix_fallocate. */
#include "ct.h"

enum { K = 1024 };

static void test(void)
{
    static char data[64 * K];
    int fd = OK(open("f", O_CREAT | O_RDWR, 0644));
    T(fallocate(fd, 0, 0, 1000));
    ct_stat("f");
    T(fallocate(fd, 0, 100, 10));
    ct_stat("f");
    T(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 100 * K));
    ct_stat("f");
    ct_fill(data, sizeof data, 9);
    T(pwrite(fd, data, sizeof data, 0));
    ct_sum("f");
    T(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 8 * K, 16 * K));
    ct_sum("f");
    T(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 33333, 777));
    ct_sum("f");
    T(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 60 * K, 100 * K));
    ct_sum("f");
    ct_stat("f");
    T(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, K));
    T(fallocate(fd, FALLOC_FL_ZERO_RANGE, 1000, 5000));
    ct_sum("f");
    T(fallocate(fd, FALLOC_FL_ZERO_RANGE, 63 * K, 2 * K));
    ct_stat("f");
    ct_sum("f");
    T(fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 64 * K, 8 * K));
    ct_stat("f");
    T(fallocate(fd, 0, -1, 10));
    T(fallocate(fd, 0, 0, 0));
    T(fallocate(fd, 0, 0, -5));
    T(fallocate(fd, 1 << 28, 0, 10));
    TE(posix_fallocate(fd, 100 * K, 10));
    ct_stat("f");
    TE(posix_fallocate(fd, 0, 0));
    TE(posix_fallocate(-1, 0, 10));
    int ro = OK(open("f", O_RDONLY));
    T(fallocate(ro, 0, 0, 10));
    int dir = OK(open(".", O_RDONLY));
    T(fallocate(dir, 0, 0, 10));
    int p[2];
    OK(pipe(p));
    T(fallocate(p[1], 0, 0, 10));
    int ap = OK(open("f", O_WRONLY | O_APPEND));
    T(fallocate(ap, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 100));
    ct_sum("f");
}
