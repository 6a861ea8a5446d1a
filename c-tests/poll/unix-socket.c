/* AF_UNIX sockets with a path in the directory: bind, listen, connect, datagrams, what stays after close, errnos. */
#include "ct.h"

static int at(int (*call)(int, const struct sockaddr *, socklen_t), int s, const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    return call(s, (struct sockaddr *)&a, sizeof a);
}

static void test(void)
{
    char text[16];
    struct sockaddr_un name;
    socklen_t length = sizeof name;
    int s = OK(socket(AF_UNIX, SOCK_STREAM, 0));
    T(at(bind, s, "s"));
    ct_stat("s");
    int other = OK(socket(AF_UNIX, SOCK_STREAM, 0));
    T(at(bind, other, "s"));
    T(at(connect, other, "s"));
    T(at(connect, other, "none"));
    T(listen(s, 5));
    pid_t pid = ct_fork();
    if (pid == 0) {
        int c = OK(socket(AF_UNIX, SOCK_STREAM, 0));
        T(at(connect, c, "s"));
        OK(write(c, "hello", 5));
        ct_bytes("answer", text, read(c, text, sizeof text));
        _exit(0);
    }
    int c = OK(accept(s, NULL, NULL));
    ct_bytes("heard", text, read(c, text, sizeof text));
    OK(write(c, "answer", 6));
    ct_wait("client", pid);
    T(getsockname(s, (struct sockaddr *)&name, &length));
    printf("%s\n", name.sun_path);
    ct_put("f", "");
    T(at(connect, other, "f"));
    T(at(bind, other, "f"));
    T(at(bind, other, "none/s"));
    F(open("s", O_RDWR));
    T(rename("s", "moved"));
    T(at(connect, other, "moved"));
    T(close(s));
    int third = OK(socket(AF_UNIX, SOCK_STREAM, 0));
    T(at(connect, third, "moved"));
    T(unlink("moved"));
    int d = OK(socket(AF_UNIX, SOCK_DGRAM, 0)), e = OK(socket(AF_UNIX, SOCK_DGRAM, 0));
    T(at(bind, d, "datagrams"));
    T(at(connect, e, "datagrams"));
    T(send(e, "packet", 6, 0));
    ct_bytes("packet", text, recv(d, text, sizeof text, 0));
    ct_ls(".");
}
