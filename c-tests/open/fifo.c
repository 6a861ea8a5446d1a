/* A FIFO in the directory: opening rules without a partner, ENXIO, then data between two processes. */
#include "ct.h"

static void test(void)
{
    char text[32];
    T(mkfifo("p", 0640));
    T(mkfifo("p", 0640));
    T(mkfifo("none/p", 0640));
    ct_stat("p");
    F(open("p", O_WRONLY | O_NONBLOCK));
    int fd = F(open("p", O_RDONLY | O_NONBLOCK));
    T(read(fd, text, 1));
    int out = F(open("p", O_WRONLY | O_NONBLOCK));
    T(read(fd, text, 1));
    T(write(out, "through", 7));
    ct_bytes("fifo", text, read(fd, text, sizeof text));
    T(lseek(fd, 0, SEEK_CUR));
    T(close(out));
    T(read(fd, text, 1));
    T(close(fd));
    pid_t pid = ct_fork();
    if (pid == 0) {
        out = OK(open("p", O_WRONLY));
        OK(write(out, "from the child", 14));
        _exit(0);
    }
    fd = F(open("p", O_RDONLY));
    ct_bytes("fifo", text, ct_read_all(fd, text, sizeof text));
    ct_wait("child", pid);
    T(close(fd));
    T(unlink("p"));
}
