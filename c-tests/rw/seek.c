/* lseek: SET, CUR, END, beyond the end, negative and overflowing results. */
#include "ct.h"

static void test(void)
{
    ct_put("f", "0123456789");
    int fd = F(open("f", O_RDWR));
    T(lseek(fd, 0, SEEK_END));
    T(lseek(fd, -3, SEEK_END));
    T(lseek(fd, -3, SEEK_CUR));
    T(lseek(fd, 100, SEEK_CUR));
    T(lseek(fd, -1, SEEK_SET));
    T(lseek(fd, -200, SEEK_CUR));
    T(lseek(fd, -11, SEEK_END));
    T(lseek(fd, 0, SEEK_CUR));
    T(lseek(fd, 0, 99));
    T(lseek(fd, INT64_MAX, SEEK_CUR));
    T(lseek(fd, 0, SEEK_CUR));
    T(lseek(fd, 1L << 40, SEEK_SET));
    T(lseek(fd, 1, SEEK_CUR));
    T(lseek(-1, 0, SEEK_SET));
    T(lseek(fd, 5, SEEK_SET));
    int two = F(dup(fd));
    T(lseek(two, 2, SEEK_CUR));
    T(lseek(fd, 0, SEEK_CUR));
    int own = F(open("f", O_RDONLY));
    T(lseek(own, 0, SEEK_CUR));
    int p[2];
    OK(pipe(p));
    T(lseek(p[0], 0, SEEK_CUR));
    T(lseek(fd, 0, SEEK_DATA));
    T(lseek(fd, 10, SEEK_DATA));
    T(lseek(fd, 0, SEEK_HOLE));
    T(lseek(fd, 10, SEEK_HOLE));
    T(lseek(fd, 9, SEEK_HOLE));
}
