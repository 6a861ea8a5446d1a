/* dup, dup2, dup3, F_DUPFD: shared offset and flags, lowest number, onto open descriptors, close-on-exec. */
#include "ct.h"

static void test(void)
{
    char text[16];
    ct_put("f", "0123456789");
    ct_put("g", "abcdefghij");
    int fd = OK(open("f", O_RDWR)), other = OK(open("g", O_RDONLY));
    int two = F(dup(fd));
    YES(two == other + 1);
    T(lseek(fd, 4, SEEK_SET));
    ct_bytes("duplicate", text, read(two, text, 3));
    T(lseek(fd, 0, SEEK_CUR));
    T(fcntl(two, F_SETFL, O_APPEND));
    printf("O_APPEND shows in the first: %d\n", (fcntl(fd, F_GETFL) & O_APPEND) != 0);
    T(fcntl(two, F_SETFL, 0));
    YES(dup2(fd, 100) == 100);
    ct_bytes("at 100", text, read(100, text, 3));
    YES(dup2(fd, other) == other);
    T(lseek(other, 0, SEEK_SET));
    ct_bytes("other is f now", text, read(other, text, 3));
    YES(dup2(fd, fd) == fd);
    T(lseek(fd, 0, SEEK_CUR));
    T(dup3(fd, fd, 0));
    T(dup2(fd, -1));
    T(dup2(999, 101));
    T(dup2(-1, -1));
    T(dup3(fd, 101, O_CLOEXEC));
    T(fcntl(101, F_GETFD));
    T(dup3(fd, 102, O_APPEND));
    YES(fcntl(fd, F_DUPFD, 200) == 200);
    YES(fcntl(fd, F_DUPFD_CLOEXEC, 200) == 201);
    T(fcntl(200, F_GETFD));
    T(fcntl(201, F_GETFD));
    T(fcntl(fd, F_DUPFD, -1));
    T(close(fd));
    T(close(two));
    T(lseek(200, 1, SEEK_SET));
    ct_bytes("still open", text, read(100, text, 2));
    int p[2];
    OK(pipe(p));
    YES(dup2(p[1], 100) == 100);
    T(write(100, "pipe", 4));
    ct_bytes("pipe", text, read(p[0], text, 8));
    YES(dup2(200, p[0]) == p[0]);
    ct_bytes("pipe's number is f", text, read(p[0], text, 2));
    int null = OK(open("/dev/null", O_RDONLY));
    YES(dup2(200, null) == null);
    T(lseek(null, 0, SEEK_CUR));
    T(dup(-1));
}
