/* A program that runs cannot be written (ETXTBSY), under none of its names, until the last that runs it has ended. */
#include "ct.h"

static void copy(const char *from, const char *to)
{
    static char text[1 << 16];
    int in = OK(open(from, O_RDONLY)), out = OK(open(to, O_CREAT | O_WRONLY, 0700));
    for (ssize_t n; (n = read(in, text, sizeof text)) > 0;) OK(write(out, text, n));
    close(in);
    close(out);
}

static void test(void)
{
    int go[2], on[2];
    char text[10];
    copy("/bin/cat", "cat");
    OK(link("cat", "other"));
    int fd = OK(open("cat", O_RDONLY));
    OK(pipe(go));
    OK(pipe(on));
    pid_t pid = ct_fork();
    if (pid == 0) {
        dup2(go[0], 0);
        dup2(on[1], 1);
        close(go[1]);
        execl("./cat", "cat", NULL);
        _exit(100);
    }
    close(go[0]);
    OK(write(go[1], "runs", 4));
    ct_bytes("it", text, read(on[0], text, 4));
    F(open("cat", O_WRONLY));
    F(open("cat", O_RDWR));
    F(open("other", O_RDWR | O_TRUNC));
    F(open("cat", O_CREAT | O_WRONLY, 0700));
    F(open("cat", O_RDONLY));
    T(truncate("cat", 0));
    T(chmod("cat", 0755));
    T(rename("cat", "moved"));
    T(unlink("moved"));
    F(open("other", O_WRONLY));
    CHILD("again while it runs") { T(execl("./other", "cat", "/dev/null", NULL)); }
    close(go[1]);
    ct_wait("cat", pid);
    fd = F(open("other", O_RDWR));
    T(ftruncate(fd, 10));
    close(fd);
    T(truncate("other", 0));
}
