/* O_CREAT|O_EXCL, mkdir, link, symlink and mkfifo by four processes at once: exactly one wins each name. */
#include "ct.h"

enum { RACERS = 4, NAMES = 60 };

static int attempt(int kind, const char *name)
{
    int fd;
    switch (kind) {
    case 0:
        fd = open(name, O_CREAT | O_EXCL | O_WRONLY, 0644);
        if (fd >= 0) close(fd);
        return fd >= 0 ? 0 : -1;
    case 1: return mkdir(name, 0755);
    case 2: return link("source", name);
    case 3: return symlink("source", name);
    default: return mkfifo(name, 0644);
    }
}

static void test(void)
{
    int result[2];
    OK(pipe(result));
    ct_put("source", "");
    for (int r = 0; r < RACERS; r++)
        if (ct_fork() == 0) {
            int won[NAMES];
            char name[32];
            for (int i = 0; i < NAMES; i++) {
                snprintf(name, sizeof name, "n%d", i);
                won[i] = attempt(i % 5, name) == 0;
                if (!won[i] && errno != EEXIST) won[i] = 100;
            }
            OK(write(result[1], won, sizeof won));
            _exit(0);
        }
    int total[NAMES] = {0}, won[NAMES], wrong = 0;
    for (int r = 0; r < RACERS; r++) {
        ct_read_all(result[0], won, sizeof won);
        for (int i = 0; i < NAMES; i++) total[i] += won[i];
    }
    for (int i = 0; i < NAMES; i++) wrong += total[i] != 1;
    printf("names without exactly one winner: %d\n", wrong);
    struct stat st;
    OK(stat("source", &st));
    printf("links of the source: %lu\n", (unsigned long)st.st_nlink);
    while (wait(NULL) > 0) {}
}
