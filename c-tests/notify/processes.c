/* Watches and what other processes do: children, programs that they execute, killed ones; an instance that is inherited,
 * duplicated or sent; waiting for events; local files in the same instance. */
#include "events.h"
#include <sys/epoll.h>

static void send_fd(int socket, int fd)
{
    char space[CMSG_SPACE(sizeof fd)] = {0};
    struct msghdr m = {.msg_iov = &(struct iovec){"x", 1}, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    *c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd)};
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    OK(sendmsg(socket, &m, 0));
}

static int receive_fd(int socket)
{
    int fd;
    char byte, space[CMSG_SPACE(sizeof fd)];
    struct msghdr m = {.msg_iov = &(struct iovec){&byte, 1}, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    OK(recvmsg(socket, &m, 0));
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
    return fd;
}

static void test(void)
{
    int in = OK(inotify_init1(0));
    char local[] = P_tmpdir "/ct-notify-XXXXXX", path[64];
    OK(mkdir("d", 0755));
    OK(mkdtemp(local) ? 0 : -1);
    ev_watch(in, "d", IN_ALL_EVENTS & ~(IN_OPEN | IN_ACCESS), "d");
    ev_watch(in, local, IN_CREATE | IN_DELETE, "local");

    CHILD("made") { ct_put("d/child", "c"); }
    ev_print(in, "by a child");
    CHILD("executed") { execlp("sh", "sh", "-c", "echo more >> d/child; rm d/child; mkdir d/m", (char *)NULL); }
    ev_print(in, "by a program");
    snprintf(path, sizeof path, "%s/x", local);
    ct_put(path, "");
    OK(unlink(path));
    OK(rmdir("d/m"));
    ev_print(in, "in both");

    CHILD("copied") { execlp("cp", "cp", "/bin/true", "d/true", (char *)NULL); }
    ev_print(in, "a copied program");
    ev_watch(in, "d", IN_OPEN | IN_ACCESS | IN_CLOSE | IN_MASK_ADD, "d");
    CHILD("run") { execl("d/true", "true", (char *)NULL); }
    // The library looks into a program before it lets it be executed, also into a local one: one more open.
    ev_kinds(in, "a program that is executed");
    OK(unlink("d/true"));
    ev_watch(in, "d", IN_ALL_EVENTS & ~(IN_OPEN | IN_ACCESS), "d");
    ev_print(in, "its end");

    pid_t killed = ct_fork();
    if (killed == 0) {
        int fd = OK(open("d/killed", O_CREAT | O_WRONLY, 0600));
        OK(write(fd, "x", 1));
        raise(SIGKILL);
    }
    ct_wait("killed", killed);
    struct pollfd p = {in, POLLIN, 0};
    for (int n = 0; n < 100; n++) { // its close comes when somebody has noticed
        int have = 0;
        OK(ioctl(in, FIONREAD, &have));
        if ((size_t)have >= 3 * (sizeof(struct inotify_event) + 16)) break;
        poll(NULL, 0, 50);
    }
    ev_print(in, "of one that was killed");

    pid_t later = ct_fork();
    if (later == 0) {
        poll(NULL, 0, 100);
        OK(mkdir("d/later", 0700));
        poll(NULL, 0, 100);
        OK(rmdir("d/later"));
        _exit(0);
    }
    T(poll(&p, 1, 5000));
    ev_print(in, "poll");
    int ep = OK(epoll_create1(0));
    struct epoll_event event = {EPOLLIN, {0}};
    OK(epoll_ctl(ep, EPOLL_CTL_ADD, in, &event));
    T(epoll_wait(ep, &event, 1, 5000));
    ev_print(in, "epoll");
    ct_wait("later", later);

    int copy = OK(dup(in));
    CHILD("inherited") {
        OK(mkdir("d/x", 0700));
        ev_print(in, "in the child");
        ev_watch(in, "d/x", IN_CREATE, "x");
        OK(mkdir("d/x/y", 0700));
    }
    ev_names[3] = "x";
    ev_print(copy, "of the child's watch");
    OK(rmdir("d/x/y"));
    int s[2];
    OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    send_fd(s[0], in);
    OK(close(in));
    OK(close(copy));
    OK(close(ep));
    in = receive_fd(s[1]);
    EV(rmdir("d/x"));
    snprintf(path, sizeof path, "/proc/self/fd/%d", in);
    CHILD("read by a program") {
        OK(mkdir("d/z", 0700));
        OK(dup2(in, 0));
        execlp("sh", "sh", "-c", "head -c 32 | tail -c 16 | tr -d '\\0'; echo", (char *)NULL);
    }
    OK(rmdir(local));
    OK(close(in));
}
