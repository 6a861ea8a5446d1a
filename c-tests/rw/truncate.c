/* truncate and ftruncate: shrinking, growing with zeros, no old bytes come back, errnos. */
#include "ct.h"

static char data[3 << 20];

static void test(void)
{
    char text[16];
    ct_put("f", "0123456789");
    T(truncate("f", 4));
    ct_cat("f");
    T(truncate("f", 12));
    ct_cat("f");
    int fd = OK(open("f", O_RDWR));
    T(lseek(fd, 0, SEEK_END));
    T(ftruncate(fd, 2));
    T(lseek(fd, 0, SEEK_CUR));
    T(read(fd, text, 1));
    T(write(fd, "tail", 4));
    ct_cat("f");
    T(ftruncate(fd, 0));
    ct_stat("f");
    ct_fill(data, sizeof data, 5);
    T(pwrite(fd, data, sizeof data, 0));
    T(ftruncate(fd, (1 << 20) + 100));
    T(ftruncate(fd, 3 << 20));
    ct_sum("f");
    T(pwrite(fd, "X", 1, 2 << 20));
    T(ftruncate(fd, 5));
    T(ftruncate(fd, 2500));
    ct_sum("f");
    T(ftruncate(fd, 1L << 40));
    ct_stat("f");
    T(ftruncate(fd, 100));
    T(ftruncate(fd, -1));
    T(truncate("f", -1));
    T(truncate("none", 0));
    T(truncate(".", 0));
    T(truncate("f/x", 0));
    T(ftruncate(-1, 0));
    int ro = OK(open("f", O_RDONLY));
    T(ftruncate(ro, 0));
    symlink("f", "l");
    T(truncate("l", 7));
    ct_stat("f");
    int dir = OK(open(".", O_RDONLY));
    T(ftruncate(dir, 0));
    int p[2];
    OK(pipe(p));
    T(ftruncate(p[1], 0));
}
