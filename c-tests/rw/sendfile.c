/* sendfile: file to file, file to pipe and socket, with and without an offset, short at the end. */
#include "ct.h"

static char data[300000], back[300000];

static void test(void)
{
    off_t at = 100;
    int p[2], s[2];
    ct_fill(data, sizeof data, 11);
    int in = OK(open("in", O_CREAT | O_RDWR, 0644));
    OK(write(in, data, sizeof data));
    int out = OK(open("out", O_CREAT | O_RDWR, 0644));
    T(lseek(in, 0, SEEK_SET));
    T(sendfile(out, in, NULL, 1000));
    T(lseek(in, 0, SEEK_CUR));
    T(lseek(out, 0, SEEK_CUR));
    T(sendfile(out, in, &at, 5000));
    printf("offset %lld\n", (long long)at);
    T(lseek(in, 0, SEEK_CUR));
    at = sizeof data - 10;
    T(sendfile(out, in, &at, 5000));
    T(sendfile(out, in, &at, 5000));
    ct_sum("out");
    OK(pipe(p));
    at = 7;
    T(sendfile(p[1], in, &at, 4000));
    printf("piped: %d\n", ct_read_all(p[0], back, 4000) == 4000 && !memcmp(back, data + 7, 4000));
    OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    at = 0;
    T(sendfile(s[0], in, &at, 20000));
    printf("sent: %d\n", ct_read_all(s[1], back, 20000) == 20000 && !memcmp(back, data, 20000));
    at = -1;
    T(sendfile(out, in, &at, 10));
    T(sendfile(-1, in, NULL, 10));
    T(sendfile(out, -1, NULL, 10));
    int ro = OK(open("out", O_RDONLY));
    T(sendfile(ro, in, NULL, 10));
    int wo = OK(open("in", O_WRONLY));
    T(sendfile(out, wo, NULL, 10));
    int ap = OK(open("out", O_WRONLY | O_APPEND));
    T(sendfile(ap, in, NULL, 10));
    int null = OK(open("/dev/null", O_WRONLY));
    at = 0;
    T(sendfile(null, in, &at, 300000));
    T(sendfile(out, in, NULL, 0));

    /* What is refused is refused of an empty file as well. */
    int empty = OK(open("empty", O_CREAT | O_RDONLY, 0644));
    T(sendfile(-1, empty, NULL, 1));
    T(sendfile(empty, empty, NULL, 1));
    T(sendfile(null, empty, NULL, 1));
    int local = OK(open("/dev/null", O_RDONLY));
    T(sendfile(local, empty, NULL, 1));

    /* Nothing stops in the middle. */
    T(ftruncate(in, 5 << 20));
    at = 0;
    T(sendfile(null, in, &at, 1 << 30));
    printf("offset %lld\n", (long long)at);
    T(lseek(in, 1, SEEK_SET));
    T(sendfile(null, in, NULL, 3 << 20));
    T(lseek(in, 0, SEEK_CUR));
    OK(pipe(p));
    OK(fcntl(p[1], F_SETFL, O_NONBLOCK));
    at = 0;
    printf("a full pipe: %d\n", sendfile(p[1], in, &at, 5 << 20) > 0 && at > 0 && at < 5 << 20);
    T(sendfile(p[1], in, &at, 1));
}
