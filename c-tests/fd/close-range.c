/* close, close_range, closefrom: files, holes, flags; a closed number is free and gives EBADF. */
#include "ct.h"

static int open_count(int from, int to)
{
    int n = 0;
    for (int fd = from; fd <= to; fd++) n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void fill(void)
{
    int fd = OK(open("f", O_RDWR));
    for (int i = 50; i < 60; i++) OK(dup2(fd, i));
    close(fd);
}

static void test(void)
{
    ct_put("f", "content");
    fill();
    T(close_range(52, 55, 0));
    for (int i = 50; i < 60; i++) printf("%d", fcntl(i, F_GETFD) >= 0);
    puts("");
    T(close_range(50, 100, CLOSE_RANGE_CLOEXEC));
    T(fcntl(51, F_GETFD));
    T(fcntl(52, F_GETFD));
    T(close_range(60, 50, 0));
    T(close_range(50, 60, 1 << 10));
    char text[8];
    T(pread(59, text, 7, 0));
    T(close_range(50, ~0u, 0));
    printf("%d open\n", open_count(50, 60));
    T(read(51, text, 1));
    fill();
    CHILD("child with its own table") {
        T(close_range(50, 54, CLOSE_RANGE_UNSHARE));
        printf("%d open\n", open_count(50, 60));
    }
    printf("%d open\n", open_count(50, 60));
    closefrom(53);
    printf("%d open\n", open_count(50, 60));
    T(close(50));
    T(close(50));
    T(close(-1));
    YES(dup2(51, 50) == 50);
    ct_bytes("f", text, pread(50, text, 8, 0));
}
