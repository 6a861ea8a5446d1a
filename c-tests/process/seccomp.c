/* Strict seccomp: a program that allows itself only read, write and exit lives, and its native descriptors work. */
#include "ct.h"
#include <linux/seccomp.h>
#include <sys/prctl.h>

static void test(void)
{
    int p[2];
    char text[16];
    OK(pipe(p));
    ct_put("f", "before");
    CHILD("strict, on pipes") {
        OK(write(p[1], "hello", 5));
        if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT)) _exit(1);
        ssize_t n = read(p[0], text, sizeof text);
        if (write(1, "inside\n", 7) != 7) syscall(SYS_exit, 2);
        syscall(SYS_exit, n == 5 ? 0 : 3);
    }
    CHILD("strict, then open") {
        if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT)) _exit(1);
        open("/etc/passwd", O_RDONLY);
        syscall(SYS_exit, 4);
    }
    ct_cat("f");
}
