/* splice, tee and vmsplice between files and pipes. */
#include "ct.h"

static void test(void)
{
    static char data[30000], back[30000];
    loff_t at = 5;
    int p[2], q[2];
    OK(pipe(p));
    OK(pipe(q));
    ct_fill(data, sizeof data, 17);
    int in = OK(open("in", O_CREAT | O_RDWR, 0644));
    OK(write(in, data, sizeof data));
    OK(lseek(in, 0, SEEK_SET));
    T(splice(in, NULL, p[1], NULL, 1000, 0));
    T(lseek(in, 0, SEEK_CUR));
    printf("piped: %d\n", ct_read_all(p[0], back, 1000) == 1000 && !memcmp(back, data, 1000));
    T(splice(in, &at, p[1], NULL, 2000, SPLICE_F_MOVE));
    printf("offset %lld\n", (long long)at);
    T(tee(p[0], q[1], 2000, 0));
    int out = OK(open("out", O_CREAT | O_RDWR, 0644));
    T(splice(p[0], NULL, out, NULL, 2000, 0));
    T(lseek(out, 0, SEEK_CUR));
    at = 10000;
    T(splice(q[0], NULL, out, &at, 2000, 0));
    ct_sum("out");
    T(splice(q[0], NULL, out, NULL, 100, SPLICE_F_NONBLOCK));
    T(splice(in, NULL, out, NULL, 100, 0));
    T(tee(in, q[1], 100, 0));
    T(splice(-1, NULL, q[1], NULL, 100, 0));
    at = sizeof data - 3;
    T(splice(in, &at, p[1], NULL, 100, 0));
    T(splice(in, &at, p[1], NULL, 100, 0));
    T(read(p[0], back, 3));
    int ro = OK(open("out", O_RDONLY));
    OK(write(p[1], "zz", 2));
    T(splice(p[0], NULL, ro, NULL, 2, 0));
    int ap = OK(open("out", O_WRONLY | O_APPEND));
    T(splice(p[0], NULL, ap, NULL, 2, 0));
    struct iovec part = {data, 100};
    OK(read(p[0], back, 2));
    T(vmsplice(p[1], &part, 1, 0));
    T(splice(p[0], NULL, out, NULL, 100, 0));
    ct_sum("out");
}
