/* A thread blocked in read or open is cancelled: its cleanup runs, compiled with and without exceptions'
   tables. A handler that interrupts a blocked read sees as many frames as ever. */
#define _GNU_SOURCE
#include <execinfo.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int ends[2];
static volatile int ran, depth;
static volatile int tid;
static char fifo[64];
static const char *opened = fifo;

static void clean(void *unused) { (void)unused; ran = 1; }

static void *read_blocked(void *unused) {
    char byte;
    (void)unused;
    tid = gettid();
    pthread_cleanup_push(clean, NULL);
    if (read(ends[0], &byte, 1) < 0) perror("read");
    pthread_cleanup_pop(0);
    return NULL;
}

static void *open_blocked(void *unused) {
    (void)unused;
    tid = gettid();
    pthread_cleanup_push(clean, NULL);
    if (open(opened, O_RDONLY) < 0) perror("open");
    pthread_cleanup_pop(0);
    return NULL;
}

static void count(int signal) {
    void *frames[64];
    (void)signal;
    depth = backtrace(frames, 64);
}

/* Until the thread sleeps in a system call. */
static void wait_blocked(void) {
    char path[64], state = 0;
    while (tid == 0) sched_yield();
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
    while (state != 'S') {
        FILE *file = fopen(path, "r");
        if (!file || fscanf(file, "%*d (%*[^)]) %c", &state) != 1) state = 0;
        if (file) fclose(file);
        sched_yield();
    }
}

static void cancel(const char *name, void *(*body)(void *)) {
    pthread_t thread;
    void *result = NULL;
    tid = ran = 0;
    pthread_create(&thread, NULL, body, NULL);
    wait_blocked();
    pthread_cancel(thread);
    pthread_join(thread, &result);
    printf("%s: cancelled %d, cleanup ran %d\n", name, result == PTHREAD_CANCELED, ran);
}

int main(void) {
    void *frames[4];
    pthread_t thread;
    struct sigaction action = {.sa_handler = count, .sa_flags = SA_RESTART};
    backtrace(frames, 4);
    if (pipe(ends)) return 1;
    cancel("read", read_blocked);
    snprintf(fifo, sizeof fifo, "/tmp/sealfs-cancel-%d", getpid());
    if (mkfifo(fifo, 0600)) return 1;
    cancel("open", open_blocked);
    /* Relative paths above the mount are looked at by the dispatcher first. */
    if (chdir("/")) return 1;
    opened = fifo + 1;
    cancel("open of a relative path", open_blocked);
    unlink(fifo);
    sigaction(SIGUSR1, &action, NULL);
    tid = 0;
    pthread_create(&thread, NULL, read_blocked, NULL);
    wait_blocked();
    pthread_kill(thread, SIGUSR1);
    while (depth == 0) sched_yield();
    printf("depth over a blocked read: %d\n", depth);
    fflush(stdout);
    _exit(0);
}
