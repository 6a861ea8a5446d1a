/* A program inherits files from one that ran as another user for a while: what that user's opens left behind is no hindrance. */
#include "ct.h"

enum { MANY = 60 };

static void test(void)
{
    int fd[MANY], wrong = 0;
    char name[16], got[8];
    T(chmod(".", 0777));
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "f%d", i);
        int f = OK(open(name, O_CREAT | O_RDWR, 0666));
        OK(write(f, "text", 4));
        close(f);
    }
    CHILD("another user opens them") {
        int f[2 * MANY];
        OK(setuid(CT_NOBODY));
        for (int i = 0; i < 2 * MANY; i++) {
            snprintf(name, sizeof name, "f%d", i % MANY);
            f[i] = OK(open(name, O_RDONLY));
        }
        for (int i = 0; i < 2 * MANY; i++) close(f[i]);
        _exit(0);
    }
    for (int i = 0; i < MANY; i++) {
        int p[2];
        snprintf(name, sizeof name, "f%d", i);
        fd[i] = OK(open(name, O_RDONLY));
        OK(pipe(p));
        pid_t pid = ct_fork();
        if (!pid) {
            dup2(fd[i], 0);
            dup2(p[1], 1);
            execl("/bin/cat", "cat", (char *)NULL);
            _exit(127);
        }
        close(p[1]);
        memset(got, 0, sizeof got);
        wrong += ct_read_all(p[0], got, 4) != 4 || strcmp(got, "text");
        close(p[0]);
        int status;
        waitpid(pid, &status, 0);
        wrong += status != 0;
    }
    printf("wrong: %d\n", wrong);
}
