/* What one process has written, another reads at once: sizes, bytes, truncation, in both directions. */
#include "ct.h"

static void test(void)
{
    int go[2], done[2];
    char text[64];
    OK(pipe(go));
    OK(pipe(done));
    pid_t pid = ct_fork();
    if (pid == 0) {
        int fd = OK(open("f", O_RDWR | O_CREAT, 0644));
        for (int i = 0; i < 50; i++) {
            OK(read(go[0], text, 1));
            int n = snprintf(text, sizeof text, "round %d;", i);
            if (i % 10 == 9) OK(ftruncate(fd, 0));
            OK(pwrite(fd, text, n, i * 3000 % 70000));
            OK(write(done[1], "x", 1));
        }
        _exit(0);
    }
    int fd = OK(open("f", O_RDWR | O_CREAT, 0644)), wrong = 0;
    long long size = 0;
    for (int i = 0; i < 50; i++) {
        char want[64];
        struct stat st;
        int n = snprintf(want, sizeof want, "round %d;", i);
        off_t at = i * 3000 % 70000;
        OK(write(go[1], "x", 1));
        OK(read(done[0], text, 1));
        if (i % 10 == 9) size = 0;
        if (at + n > size) size = at + n;
        OK(fstat(fd, &st));
        if (st.st_size != size) wrong++;
        if (pread(fd, text, n, at) != n || memcmp(text, want, n)) wrong++;
    }
    ct_wait("child", pid);
    printf("wrong: %d\n", wrong);
    ct_sum("f");
}
