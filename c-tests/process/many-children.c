/* Twenty children at the same time make, write, rename and remove files of their own; a daemon outlives its parent. */
#include "ct.h"

enum { CHILDREN = 20 };

static void work(int who)
{
    char name[32], to[32], text[32];
    for (int i = 0; i < 10; i++) {
        snprintf(name, sizeof name, "c%d-%d", who, i);
        snprintf(to, sizeof to, "done-%d-%d", who, i);
        snprintf(text, sizeof text, "%d/%d", who, i);
        ct_put(name, text);
        OK(rename(name, to));
        if (i % 2) OK(unlink(to));
    }
}

static void test(void)
{
    pid_t pids[CHILDREN];
    int bad = 0;
    for (int c = 0; c < CHILDREN; c++)
        if ((pids[c] = ct_fork()) == 0) {
            work(c);
            _exit(0);
        }
    for (int c = 0; c < CHILDREN; c++) {
        int status;
        waitpid(pids[c], &status, 0);
        bad += status != 0;
    }
    printf("bad %d\n", bad);
    int files = 0;
    DIR *d = OK(opendir("."));
    while (readdir(d)) files++;
    closedir(d);
    printf("%d entries\n", files);
    ct_cat("done-19-8");
    int fd = OK(open("daemon", O_CREAT | O_RDWR, 0644)), done[2];
    OK(pipe(done));
    CHILD("parent of the daemon") {
        if (fork() == 0) {
            setsid();
            OK(write(fd, "written by a daemon", 19));
            ct_put("daemons-own", "too");
            OK(write(done[1], "x", 1));
            _exit(0);
        }
    }
    char c;
    OK(read(done[0], &c, 1));
    ct_cat("daemon");
    ct_cat("daemons-own");
}
