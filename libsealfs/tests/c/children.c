/* fork, vfork, posix_spawn, popen, system, threads that spawn: what children inherit and say. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static int finish(pid_t child) {
    int status = -1;
    if (child > 0) waitpid(child, &status, 0);
    return status;
}

static int spawn(const char *out, const char *script, int signals) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t set;
    pid_t child = -1;
    char *arguments[] = {"sh", "-c", (char *)script, NULL};
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, out, O_WRONLY | O_CREAT | O_APPEND, 0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    posix_spawn_file_actions_addchdir_np(&actions, "/usr");
    posix_spawnattr_init(&attributes);
    sigfillset(&set);
    posix_spawnattr_setsigdefault(&attributes, &set);
    if (signals) posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    int error = posix_spawn(&child, "/bin/sh", &actions, &attributes, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    return error ? -error : finish(child);
}

static void *spawner(void *name) {
    long failures = 0;
    for (int i = 0; i < 20; i++) failures += spawn(name, "exit 0", i & 1) != 0;
    return (void *)failures;
}

static void print_file(const char *name) {
    char line[256];
    FILE *file = fopen(name, "r");
    while (file && fgets(line, sizeof line, file)) printf("  %s", line);
    if (file) fclose(file);
}

int main(void) {
    char name[64];
    pid_t child;
    volatile int shared = 0;
    struct sigaction now;
    snprintf(name, sizeof name, "/tmp/sealfs-children-%d", getpid());
    setvbuf(stdout, NULL, _IOLBF, 0);
    child = fork();
    if (child == 0) _exit(5);
    printf("fork %x\n", finish(child));
    child = vfork();
    if (child == 0) { shared = 1; _exit(6); }
    printf("vfork %x shared %d\n", finish(child), shared);
    child = vfork();
    if (child == 0) { execl("/nonexistent", "x", NULL); execl("/bin/true", "true", NULL); _exit(9); }
    printf("vfork exec %x\n", finish(child));
    printf("spawn %x\n", spawn(name, "pwd; echo err >&2; exit 3", 0));
    printf("spawn with signals reset %x\n", spawn(name, "kill -SEGV $$", 1));
    print_file(name);
    sigaction(SIGSEGV, NULL, &now);
    printf("ours after the child's reset: %d\n", now.sa_handler == SIG_DFL);
    int opened = open((char *)1, O_RDONLY);
    printf("bad pointer after spawn: %d %d\n", opened, errno);
    printf("spawn nowhere %d\n", spawn("/nonexistent/out", "exit 0", 0));
    printf("system %x\n", system("exit 4"));
    char line[64] = "";
    FILE *pipe = popen("echo popen", "r");
    if (pipe && fgets(line, sizeof line, pipe)) printf("%s", line);
    printf("pclose %x\n", pipe ? pclose(pipe) : -1);
    pthread_t threads[8];
    long failures = 0;
    for (int i = 0; i < 8; i++) pthread_create(&threads[i], NULL, spawner, name);
    for (int i = 0; i < 8; i++) {
        void *result;
        pthread_join(threads[i], &result);
        failures += (long)result;
    }
    printf("failures of threads that spawn: %ld\n", failures);
    unlink(name);
    return 0;
}
