/* Microseconds from start to end of /bin/true: without, with the library inert, with it active;
   medians of 500 interleaved starts. Arguments: the library. The environment has the mount. */
#define _GNU_SOURCE
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

enum { STARTS = 500, WARM = 20, KINDS = 3 };

extern char **environ;

static double start(char **environment) {
    struct timespec begin, end;
    char *arguments[] = {"/bin/true", NULL};
    pid_t child;
    int status;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    if (posix_spawn(&child, arguments[0], NULL, NULL, arguments, environment)) exit(1);
    waitpid(child, &status, 0);
    clock_gettime(CLOCK_MONOTONIC, &end);
    return (double)(end.tv_sec - begin.tv_sec) * 1e6 + (double)(end.tv_nsec - begin.tv_nsec) / 1e3;
}

static int ascending(const void *a, const void *b) {
    double difference = *(const double *)a - *(const double *)b;
    return difference < 0 ? -1 : difference > 0;
}

static char **with(char *preload, int mount) {
    size_t count = 0, used = 0;
    while (environ[count]) count++;
    char **environment = calloc(count + 2, sizeof *environment);
    for (size_t i = 0; i < count; i++)
        if (mount || strncmp(environ[i], "SEALFS_MOUNT=", 13)) environment[used++] = environ[i];
    if (preload) environment[used] = preload;
    return environment;
}

int main(int count, char **arguments) {
    static double took[KINDS][STARTS];
    static char preload[4096];
    if (count < 2) return 2;
    snprintf(preload, sizeof preload, "LD_PRELOAD=%s", arguments[1]);
    char **kinds[KINDS] = {with(NULL, 0), with(preload, 0), with(preload, 1)};
    for (int i = -WARM; i < STARTS; i++)
        for (int kind = 0; kind < KINDS; kind++) {
            double one = start(kinds[kind]);
            if (i >= 0) took[kind][i] = one;
        }
    for (int i = 0; i < STARTS; i++)
        for (int kind = 1; kind < KINDS; kind++) took[kind][i] -= took[0][i];
    for (int kind = 0; kind < KINDS; kind++) {
        qsort(took[kind], STARTS, sizeof(double), ascending);
        printf("%.0f ", took[kind][STARTS / 2]);
    }
    puts("");
    return 0;
}
