/* telldir and seekdir: going back to any place gives the rest again, across many pages. */
#include "ct.h"

enum { FILES = 1500 };

static void test(void)
{
    static char *names[FILES + 2];
    static long places[FILES + 2];
    char name[16];
    int n = 0, wrong = 0;
    for (int i = 0; i < FILES; i++) {
        snprintf(name, sizeof name, "file-%d", i);
        close(OK(creat(name, 0644)));
    }
    DIR *d = OK(opendir("."));
    for (;;) {
        long place = telldir(d);
        struct dirent *e = readdir(d);
        if (!e) break;
        places[n] = place;
        names[n++] = strdup(e->d_name);
    }
    printf("%d entries\n", n);
    for (int i = 0; i < n; i += 37) {
        int at = (i * 7919) % n;
        seekdir(d, places[at]);
        struct dirent *e = readdir(d);
        if (!e || strcmp(e->d_name, names[at])) wrong++;
        e = readdir(d);
        if (at + 1 < n ? !e || strcmp(e->d_name, names[at + 1]) : e != NULL) wrong++;
    }
    printf("wrong: %d\n", wrong);
    seekdir(d, places[n / 2]);
    int rest = 0;
    while (readdir(d)) rest++;
    printf("rest: %d\n", rest == n - n / 2);
    seekdir(d, places[0]);
    for (rest = 0; readdir(d); rest++) {}
    printf("from the start: %d\n", rest);
    int fd = dirfd(d);
    T(lseek(fd, 0, SEEK_SET));
    T(lseek(fd, -1, SEEK_SET));
    closedir(d);
}
