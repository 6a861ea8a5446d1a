/* SCM_RIGHTS: a descriptor sent to another process shares its offset and outlives the sender's. */
#include "ct.h"

static void send_fd(int socket, int fd)
{
    char control[CMSG_SPACE(sizeof fd)] = {0}, byte = 'x';
    struct iovec part = {&byte, 1};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    OK(sendmsg(socket, &m, 0));
}

static int receive_fd(int socket)
{
    char control[CMSG_SPACE(sizeof(int))], byte;
    struct iovec part = {&byte, 1};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    int fd = -1;
    OK(recvmsg(socket, &m, 0));
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    if (c) memcpy(&fd, CMSG_DATA(c), sizeof fd);
    return fd;
}

static void test(void)
{
    char text[32], byte;
    int s[2];
    OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    ct_put("g", "from the child");
    pid_t pid = ct_fork();
    if (pid == 0) {
        int fd = receive_fd(s[1]);
        ct_bytes("child reads", text, read(fd, text, 5));
        OK(write(fd, "CHILD", 5));
        OK(write(s[1], "x", 1));
        send_fd(s[1], OK(open("g", O_RDONLY)));
        _exit(0);
    }
    int fd = OK(open("f", O_RDWR | O_CREAT, 0644));
    OK(write(fd, "0123456789ABCDEF", 16));
    OK(lseek(fd, 2, SEEK_SET));
    send_fd(s[0], fd);
    OK(read(s[0], &byte, 1));
    T(lseek(fd, 0, SEEK_CUR));
    int got = receive_fd(s[0]);
    ct_wait("child", pid);
    ct_cat("f");
    ct_bytes("received", text, read(got, text, sizeof text));
    send_fd(s[0], fd);
    close(fd);
    unlink("f");
    fd = receive_fd(s[1]);
    ct_bytes("only in flight meanwhile", text, pread(fd, text, sizeof text, 0));
}
