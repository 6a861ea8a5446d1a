/* A directory of 5,000 names: all are there once, lookups work, half are removed while listing, then the rest. */
#include "ct.h"

enum { FILES = 5000 };

static int list(int *twice)
{
    static unsigned char seen[FILES];
    memset(seen, 0, sizeof seen);
    int n = 0;
    *twice = 0;
    DIR *d = OK(opendir("d"));
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] != 'n') continue;
        int i = atoi(e->d_name + 1);
        if (seen[i]++) ++*twice;
        n++;
    }
    closedir(d);
    return n;
}

static void test(void)
{
    struct stat st;
    char name[32], to[32];
    int twice, wrong = 0;
    mkdir("d", 0755);
    for (int i = 0; i < FILES; i++) {
        snprintf(name, sizeof name, "d/n%d", i);
        close(OK(open(name, O_CREAT | O_EXCL | O_WRONLY, 0644)));
    }
    printf("%d names", list(&twice));
    printf(", %d twice\n", twice);
    for (int i = 0; i < FILES; i += 97) {
        snprintf(name, sizeof name, "d/n%d", i);
        if (stat(name, &st) < 0 || !S_ISREG(st.st_mode)) wrong++;
        if (open(name, O_CREAT | O_EXCL, 0644) >= 0 || errno != EEXIST) wrong++;
    }
    T(rmdir("d"));
    for (int i = 0; i < FILES; i += 50) {
        snprintf(name, sizeof name, "d/n%d", i);
        snprintf(to, sizeof to, "d/r%d", i);
        if (rename(name, to) < 0) wrong++;
        if (rename(to, name) < 0) wrong++;
    }
    printf("wrong: %d\n", wrong);
    DIR *d = OK(opendir("d"));
    int removed = 0;
    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] == 'n' && atoi(e->d_name + 1) % 2) {
            if (unlinkat(dirfd(d), e->d_name, 0) < 0) wrong++;
            removed++;
        }
    closedir(d);
    printf("removed %d, wrong %d\n", removed, wrong);
    printf("%d names", list(&twice));
    printf(", %d twice\n", twice);
    for (int i = 0; i < FILES; i += 2) {
        snprintf(name, sizeof name, "d/n%d", i);
        OK(unlink(name));
    }
    ct_ls("d");
    T(rmdir("d"));
}
