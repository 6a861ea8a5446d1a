/* Between opendir and the first readdir: what changes meanwhile shows, whoever changes it. */
#include "ct.h"
#include <sys/wait.h>

static int compare(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void list(const char *what, DIR *d)
{
    char *names[64];
    int n = 0;
    for (struct dirent *e; n < 64 && (e = readdir(d)); ) names[n++] = strdup(e->d_name);
    qsort(names, n, sizeof *names, compare);
    printf("%s:", what);
    for (int i = 0; i < n; i++) printf(" %s", names[i]);
    printf("\n");
    closedir(d);
}

static void test(void)
{
    int go[2], done[2];
    char c;
    DIR *d;
    struct stat s, t;
    T(mkdir("d", 0755));
    for (int i = 0; i < 3; i++) {
        char name[16];
        snprintf(name, sizeof name, "d/f%d", i);
        close(OK(creat(name, 0644)));
    }
    for (int i = 0; i < 3; i++) list("plain", OK(opendir("d")));
    d = OK(opendir("d"));
    close(OK(creat("d/own", 0644)));
    list("own", d);
    list("again", OK(opendir("d")));
    d = OK(opendir("d"));
    T(unlink("d/f0"));
    list("unlinked", d);
    list("again", OK(opendir("d")));
    d = OK(opendir("d"));
    T(rename("d/f1", "d/g1"));
    list("renamed", d);

    /* Another process, that was there before. */
    OK(pipe(go));
    OK(pipe(done));
    pid_t pid = OK(fork());
    if (!pid) {
        OK(read(go[0], &c, 1));
        close(creat("d/sibling", 0644));
        OK(write(done[1], "x", 1));
        _exit(0);
    }
    for (int i = 0; i < 3; i++) list("before", OK(opendir("d")));
    d = OK(opendir("d"));
    OK(write(go[1], "x", 1));
    OK(read(done[0], &c, 1));
    list("sibling", d);
    waitpid(pid, NULL, 0);

    /* A child of ours. */
    for (int i = 0; i < 3; i++) list("before", OK(opendir("d")));
    d = OK(opendir("d"));
    pid = OK(fork());
    if (!pid) _exit(unlink("d/sibling"));
    waitpid(pid, NULL, 0);
    list("child", d);

    /* A child reads on in the parent's description. */
    d = OK(opendir("d"));
    pid = OK(fork());
    if (!pid) {
        list("in the child", d);
        fflush(stdout);
        _exit(0);
    }
    waitpid(pid, NULL, 0);
    printf("left: %s\n", readdir(d) ? "some" : "none");
    rewinddir(d);
    close(OK(creat("d/late", 0644)));
    list("from the start", d);

    /* The descriptor of a listing is a file like others. */
    d = OK(opendir("d"));
    T(fstat(dirfd(d), &s));
    T(chmod("d", 0700));
    T(fstat(dirfd(d), &t));
    printf("mode %o, then %o, same file %d\n", s.st_mode, t.st_mode, s.st_ino == t.st_ino);
    list("last", d);
    P(opendir("d/g1"));
    P(opendir("d/none"));
    P(opendir(""));
}
