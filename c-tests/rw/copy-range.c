/* copy_file_range: within a file, between files, with offsets, at the end, overlapping, errnos. */
#include "ct.h"

static char data[200000];

static void test(void)
{
    off64_t from = 1000, to = 50;
    ct_fill(data, sizeof data, 13);
    int in = OK(open("in", O_CREAT | O_RDWR, 0644));
    OK(write(in, data, sizeof data));
    int out = OK(open("out", O_CREAT | O_RDWR, 0644));
    OK(lseek(in, 10, SEEK_SET));
    T(copy_file_range(in, NULL, out, NULL, 70000, 0));
    T(lseek(in, 0, SEEK_CUR));
    T(lseek(out, 0, SEEK_CUR));
    ct_sum("out");
    T(copy_file_range(in, &from, out, &to, 3000, 0));
    printf("from %lld to %lld\n", (long long)from, (long long)to);
    T(lseek(in, 0, SEEK_CUR));
    ct_sum("out");
    from = sizeof data - 5;
    T(copy_file_range(in, &from, out, &to, 3000, 0));
    T(copy_file_range(in, &from, out, &to, 3000, 0));
    from = 0, to = 100000;
    T(copy_file_range(in, &from, in, &to, 50000, 0));
    ct_sum("in");
    from = 0, to = 10;
    T(copy_file_range(in, &from, in, &to, 50, 0));
    T(copy_file_range(in, &from, out, &to, 0, 0));
    T(copy_file_range(in, &from, out, &to, 10, 1));
    from = 0;
    T(copy_file_range(-1, &from, out, &to, 10, 0));
    int ro = OK(open("out", O_RDONLY));
    T(copy_file_range(in, &from, ro, &to, 10, 0));
    int wo = OK(open("in", O_WRONLY));
    T(copy_file_range(wo, &from, out, &to, 10, 0));
    int ap = OK(open("out", O_WRONLY | O_APPEND));
    T(copy_file_range(in, &from, ap, NULL, 10, 0));
    int dir = OK(open(".", O_RDONLY));
    T(copy_file_range(dir, &from, out, &to, 10, 0));
    int p[2];
    OK(pipe(p));
    T(copy_file_range(in, &from, p[1], NULL, 10, 0));
}
