/* poll, select, ppoll, pselect on files: always ready; epoll refuses files with EPERM. */
#include "ct.h"
#include <sys/epoll.h>
#include <sys/select.h>

static void test(void)
{
    int p[2];
    OK(pipe(p));
    ct_put("f", "");
    int fd = OK(open("f", O_RDWR)), dir = OK(open(".", O_RDONLY));
    struct pollfd polled[] = {{fd, POLLIN | POLLOUT | POLLPRI, 0}, {dir, POLLIN | POLLOUT, 0}, {p[0], POLLIN, 0}, {-1, POLLIN, 0}, {999, POLLIN, 0}};
    T(poll(polled, 5, 1000));
    for (int i = 0; i < 5; i++) printf("%d: %x\n", i, polled[i].revents);
    T(poll(polled + 2, 1, 10));
    struct timespec none = {0, 0};
    T(ppoll(polled, 1, &none, NULL));
    fd_set r, w, e;
    FD_ZERO(&r);
    FD_ZERO(&w);
    FD_ZERO(&e);
    FD_SET(fd, &r), FD_SET(p[0], &r), FD_SET(fd, &w), FD_SET(dir, &w), FD_SET(fd, &e);
    struct timeval wait = {1, 0};
    T(select(100, &r, &w, &e, &wait));
    printf("%d %d %d %d %d\n", FD_ISSET(fd, &r) != 0, FD_ISSET(p[0], &r) != 0, FD_ISSET(fd, &w) != 0, FD_ISSET(dir, &w) != 0, FD_ISSET(fd, &e) != 0);
    FD_ZERO(&r);
    FD_SET(fd, &r);
    T(pselect(fd + 1, &r, NULL, NULL, &none, NULL));
    close(fd);
    FD_ZERO(&r);
    FD_SET(fd, &r);
    T(select(fd + 1, &r, NULL, NULL, &wait));
    fd = OK(open("f", O_RDWR));
    int ep = OK(epoll_create1(0));
    struct epoll_event event = {EPOLLIN, {.fd = 7}};
    T(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event));
    T(epoll_ctl(ep, EPOLL_CTL_ADD, dir, &event));
    T(epoll_ctl(ep, EPOLL_CTL_ADD, 999, &event));
    T(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &event));
    OK(write(p[1], "x", 1));
    T(epoll_wait(ep, &event, 1, 1000));
    T(mkfifo("p", 0644));
    int fifo = OK(open("p", O_RDWR));
    polled[0].fd = fifo;
    T(poll(polled, 1, 0));
    printf("fifo: %x\n", polled[0].revents);
    T(epoll_ctl(ep, EPOLL_CTL_ADD, fifo, &event));
}
