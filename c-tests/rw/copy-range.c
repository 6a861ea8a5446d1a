/* copy_file_range: within a file, between files, with offsets, at the end, overlapping, errnos. */
#include "ct.h"

static char data[200000];

static void bounds(int in, int out)
{
    off64_t from = 0, to = 0;
    T(copy_file_range(in, &from, out, &to, SIZE_MAX, 0));
    from = 1, to = 0;
    T(copy_file_range(in, &from, out, &to, SIZE_MAX, 0));
    from = -1;
    T(copy_file_range(in, &from, out, &to, 10, 0));
    from = 0, to = LLONG_MAX;
    T(copy_file_range(in, &from, out, &to, 10, 0));
    from = 1 << 30, to = 10;
    T(copy_file_range(in, &from, out, &to, 10, 0));
    T(copy_file_range(in, BAD, out, &to, 10, 0));
    from = sizeof data - 10, to = sizeof data;
    T(copy_file_range(in, &from, in, &to, 100, 0));
    CHILD("limit of the size") {
        struct rlimit limit = {5000, 5000};
        signal(SIGXFSZ, SIG_IGN);
        OK(setrlimit(RLIMIT_FSIZE, &limit));
        int small = OK(open("small", O_CREAT | O_RDWR, 0644));
        from = 0, to = 0;
        T(copy_file_range(in, &from, small, &to, 9000, 0));
        T(copy_file_range(in, &from, small, &to, 9000, 0));
        from = 1 << 30;
        T(copy_file_range(in, &from, small, &to, 9000, 0));
        ct_stat("small");
    }
    int hole = OK(open("hole", O_CREAT | O_RDWR, 0644));
    OK(ftruncate(hole, 3 << 20));
    from = 0, to = 100;
    T(copy_file_range(hole, &from, out, &to, 50000, 0));
    from = 1 << 20, to = 4 << 20;
    T(copy_file_range(hole, &from, out, &to, 5 << 20, 0));
    ct_sum("out");
}

/* Source and destination are one description, or duplicates of one. */
static void same_description(void)
{
    off64_t to = 5000;
    int fd = OK(open("one", O_CREAT | O_RDWR, 0644)), twin = OK(dup(fd));
    OK(write(fd, data, 5000));
    OK(lseek(fd, 0, SEEK_SET));
    T(copy_file_range(fd, NULL, fd, NULL, 10, 0));
    T(copy_file_range(fd, NULL, twin, &to, 3000, 0));
    T(lseek(twin, 0, SEEK_CUR));
    to = 100;
    OK(lseek(fd, 6000, SEEK_SET));
    T(copy_file_range(fd, &to, twin, NULL, 2000, 0));
    T(lseek(fd, 0, SEEK_CUR));
    ct_sum("one");
}

/* What a shared mapping has changed is copied, and a copy is seen in a mapping. */
static void mapped(int in)
{
    off64_t from = 0, to = 0;
    char *m = OK(mmap(NULL, sizeof data, PROT_READ | PROT_WRITE, MAP_SHARED, in, 0));
    memcpy(m + 50000, "changed by memory", 17);
    int out = OK(open("mapped", O_CREAT | O_RDWR, 0644));
    T(copy_file_range(in, &from, out, &to, 100000, 0));
    ct_sum("mapped");
    char *n = OK(mmap(NULL, 100000, PROT_READ | PROT_WRITE, MAP_SHARED, out, 0));
    from = 1000, to = 30000;
    T(copy_file_range(in, &from, out, &to, 20000, 0));
    YES(!memcmp(n + 30000, m + 1000, 20000));
    from = 0, to = 99000;
    T(copy_file_range(out, &from, in, &to, 60000, 0));
    YES(!memcmp(m + 99000, n, 60000));
    OK(munmap(n, 100000));
    OK(munmap(m, sizeof data));
    ct_sum("mapped");
}

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
    bounds(in, out);
    same_description();
    mapped(in);
}
