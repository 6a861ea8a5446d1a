/* Four processes rename 40 files among six directories: at the end each file is in exactly one, with its content. */
#include "ct.h"

enum { DIRS = 6, FILES = 40, MOVERS = 4, ROUNDS = 150 };

static void mover(unsigned seed)
{
    char from[32], to[32];
    for (int i = 0; i < ROUNDS; i++) {
        seed = seed * 1103515245 + 12345;
        int file = (seed >> 8) % FILES, a = (seed >> 16) % DIRS, b = (seed >> 20) % DIRS;
        snprintf(from, sizeof from, "d%d/f%d", a, file);
        snprintf(to, sizeof to, "d%d/f%d", b, file);
        if (rename(from, to) < 0 && errno != ENOENT) {
            printf("rename: %s\n", ct_errname(errno));
            _exit(1);
        }
    }
}

static void test(void)
{
    char path[32], text[16];
    for (int d = 0; d < DIRS; d++) {
        snprintf(path, sizeof path, "d%d", d);
        OK(mkdir(path, 0755));
    }
    for (int f = 0; f < FILES; f++) {
        snprintf(path, sizeof path, "d%d/f%d", f % DIRS, f);
        snprintf(text, sizeof text, "file %d", f);
        ct_put(path, text);
    }
    pid_t pids[MOVERS];
    for (int m = 0; m < MOVERS; m++)
        if ((pids[m] = ct_fork()) == 0) {
            mover(m + 1);
            _exit(0);
        }
    for (int m = 0; m < MOVERS; m++) ct_wait("mover", pids[m]);
    int wrong = 0, entries = 0;
    for (int f = 0; f < FILES; f++) {
        int seen = 0;
        for (int d = 0; d < DIRS; d++) {
            struct stat st;
            snprintf(path, sizeof path, "d%d/f%d", d, f);
            int fd = open(path, O_RDONLY);
            if (fd < 0) continue;
            seen++;
            char back[16] = "";
            snprintf(text, sizeof text, "file %d", f);
            if (ct_read_all(fd, back, sizeof back - 1) < 0 || strcmp(text, back) || fstat(fd, &st) < 0 || st.st_nlink != 1) wrong++;
            close(fd);
        }
        wrong += seen != 1;
    }
    for (int d = 0; d < DIRS; d++) {
        snprintf(path, sizeof path, "d%d", d);
        DIR *dir = OK(opendir(path));
        for (struct dirent *e; (e = readdir(dir));) entries += e->d_name[0] == 'f';
        closedir(dir);
    }
    printf("wrong %d, entries %d\n", wrong, entries);
}
