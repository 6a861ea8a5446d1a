/* Many open files at once: each keeps its own offset; the limit of descriptors gives EMFILE; numbers are the lowest. */
#include "ct.h"

enum { MANY = 600 };

static void test(void)
{
    static int fds[MANY];
    char name[16], c;
    struct rlimit limit = {700, 700};
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "f%d", i);
        fds[i] = OK(open(name, O_CREAT | O_RDWR, 0644));
        if (i && fds[i] != fds[i - 1] + 1) printf("file %d: number not the lowest\n", i);
        OK(write(fds[i], name, strlen(name)));
    }
    int wrong = 0;
    for (int i = MANY - 1; i >= 0; i--) {
        OK(lseek(fds[i], i % 3, SEEK_SET));
    }
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "f%d", i);
        ssize_t n = read(fds[i], &c, 1);
        if (n != (i % 3 < (int)strlen(name)) || (n && c != name[i % 3])) wrong++;
    }
    printf("wrong: %d\n", wrong);
    close(fds[100]);
    close(fds[50]);
    YES(open("f0", O_RDONLY) == fds[50]);
    YES(open("f0", O_RDONLY) == fds[100]);
    T(setrlimit(RLIMIT_NOFILE, &limit));
    int last = -1, fd;
    while ((fd = open("f1", O_RDONLY)) >= 0) last = fd;
    printf("then %s, highest is the limit: %d\n", ct_errname(errno), last == 699);
    T(dup(0));
    F(open("none", O_RDONLY));
    close(last);
    YES(open("f1", O_RDONLY) == last);
}
