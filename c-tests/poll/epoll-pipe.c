/* Waiting on pipes and FIFOs goes on working while files are read and written in between. */
#include "ct.h"
#include <sys/epoll.h>

static void test(void)
{
    struct epoll_event event = {EPOLLIN, {.u32 = 5}};
    char text[16];
    T(mkfifo("fifo", 0644));
    int fifo = OK(open("fifo", O_RDWR | O_NONBLOCK));
    int ep = OK(epoll_create1(EPOLL_CLOEXEC));
    T(epoll_ctl(ep, EPOLL_CTL_ADD, fifo, &event));
    T(epoll_wait(ep, &event, 1, 0));
    pid_t pid = ct_fork();
    if (pid == 0) {
        ct_put("message", "in a file");
        int out = OK(open("fifo", O_WRONLY));
        OK(write(out, "ready", 5));
        _exit(0);
    }
    T(epoll_wait(ep, &event, 1, 5000));
    ct_bytes("fifo", text, read(fifo, text, sizeof text));
    ct_cat("message");
    ct_wait("child", pid);
    T(read(fifo, text, 1));
    struct pollfd both[] = {{fifo, POLLIN, 0}, {OK(open("message", O_RDONLY)), POLLIN, 0}};
    T(poll(both, 2, -1));
    printf("%x %x\n", both[0].revents, both[1].revents);
}
