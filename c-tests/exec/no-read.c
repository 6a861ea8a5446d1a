/* A program may be executed without permission to read it; a script may not; set-id bits of programs; who may execute at all. */
#include "ct.h"

static void copy(const char *from, const char *to, mode_t mode)
{
    static char text[1 << 16];
    int in = OK(open(from, O_RDONLY)), out = OK(open(to, O_CREAT | O_WRONLY, 0700));
    for (ssize_t n; (n = read(in, text, sizeof text)) > 0;) OK(write(out, text, n));
    close(in);
    close(out);
    OK(chmod(to, mode));
}

static void test(void)
{
    copy("/bin/echo", "echo", 0711);
    copy("/bin/echo", "secret", 0700);
    copy("/bin/echo", "readable", 0744);
    ct_put("script", "#!/bin/sh\necho from a script\n");
    OK(chmod("script", 0711));
    ct_put("plain", "#!/bin/sh\necho no\n");
    if (geteuid() != 0) {
        puts("not root: nothing to compare");
        return;
    }
    CHILD("root") { T(execl("./echo", "echo", "root runs it", NULL)); }
    CHILD("nobody") {
        ct_become_nobody();
        F(open("echo", O_RDONLY));
        T(execl("./echo", "echo", "nobody runs it", NULL));
    }
    CHILD("nobody, another's") {
        ct_become_nobody();
        T(execl("./secret", "echo", "never", NULL));
    }
    CHILD("nobody, readable only") {
        ct_become_nobody();
        T(execl("./readable", "echo", "never", NULL));
    }
    CHILD("nobody, a script that cannot be read") {
        int null = OK(open("/dev/null", O_WRONLY));
        dup2(null, 2);
        ct_become_nobody();
        execl("./script", "script", NULL);
    }
    CHILD("nobody, no x") {
        ct_become_nobody();
        T(execl("./plain", "plain", NULL));
    }
    CHILD("root, no x") { T(execl("./plain", "plain", NULL)); }
    CHILD("by descriptor") {
        int fd = OK(open("echo", O_PATH | O_CLOEXEC));
        ct_become_nobody();
        char *const args[] = {"echo", "by descriptor", NULL}, *const env[] = {NULL};
        T(syscall(SYS_execveat, fd, "", args, env, AT_EMPTY_PATH));
    }
}
