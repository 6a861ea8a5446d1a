/* Handled calls (number 511: the sum of two arguments) from threads, handlers and children. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 4, ROUNDS = 20000, FORKS = 150, HANDLED = 511 };

static volatile int wrong, stop;
static volatile long handled;

static void sum(long a, long b) {
    if (syscall(HANDLED, 0, a, b) != a + b) __sync_fetch_and_add(&wrong, 1);
}

static void handler(int signal) {
    int saved = errno;
    sum(signal, 1000);
    if (open("/nonexistent/path", O_RDONLY) >= 0) wrong++;
    __sync_fetch_and_add(&handled, 1);
    errno = saved;
}

static void *rounds(void *seed) {
    for (long i = 0; i < ROUNDS; i++) {
        errno = 77;
        sum((long)seed + i, i);
        if (errno != 77) wrong++;
        if (i % 64 == 0) pthread_kill(pthread_self(), SIGUSR2);
    }
    return NULL;
}

static void signals(void) {
    pthread_t threads[THREADS];
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    struct itimerval timer = {{0, 200}, {0, 200}};
    sigaction(SIGALRM, &action, NULL);
    sigaction(SIGUSR2, &action, NULL);
    setitimer(ITIMER_REAL, &timer, NULL);
    for (long i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, rounds, (void *)(i << 32));
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    timer = (struct itimerval){{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &timer, NULL);
    if (handled < 100) wrong++;
}

/* Lines of the memory map: each stack of the library is two of them. */
static int mappings(void) {
    int lines = 0, byte;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && (byte = fgetc(maps)) != EOF) lines += byte == '\n';
    if (maps) fclose(maps);
    return lines;
}

static sigjmp_buf out;
static void jump(int signal) { (void)signal; siglongjmp(out, 1); }

static void jumps(void) {
    struct itimerval timer = {{0, 0}, {0, 100}};
    int before, after;
    signal(SIGALRM, jump);
    sum(1, 2);
    before = mappings();
    for (int i = 0; i < 2000; i++) {
        if (sigsetjmp(out, 1)) continue;
        timer.it_value.tv_usec = 20 + i % 50;
        setitimer(ITIMER_REAL, &timer, NULL);
        for (;;) sum(i, 3);
    }
    after = mappings();
    if (after > before + 8) { printf("mappings %d -> %d\n", before, after); wrong++; }
}

static void *one(void *unused) { (void)unused; sum(3, 4); return NULL; }

static void threads(void) {
    int before = 0, after;
    for (int i = 0; i < 500; i++) {
        pthread_t pair[2];
        for (int k = 0; k < 2; k++) pthread_create(&pair[k], NULL, one, NULL);
        for (int k = 0; k < 2; k++) pthread_join(pair[k], NULL);
        if (i == 100) before = mappings();
    }
    after = mappings();
    if (after > before + 8) { printf("mappings %d -> %d\n", before, after); wrong++; }
}

static void *endless(void *seed) {
    for (long i = 0; !stop; i++) sum((long)seed, i);
    return NULL;
}

static void forks(void) {
    pthread_t busy[2];
    for (long i = 0; i < 2; i++) pthread_create(&busy[i], NULL, endless, (void *)i);
    for (int i = 0; i < FORKS; i++) {
        int status = 0;
        pid_t child = i % 3 ? fork() : vfork();
        if (child == 0) {
            if (i % 3) { alarm(20); for (int k = 0; k < 50; k++) sum(k, i); }
            else sum(i, i);
            _exit(wrong != 0);
        }
        waitpid(child, &status, 0);
        if (status) wrong++;
    }
    stop = 1;
    for (int i = 0; i < 2; i++) pthread_join(busy[i], NULL);
}

int main(int count, char **part) {
    if (count < 2) return 2;
    if (!strcmp(part[1], "signals")) signals();
    if (!strcmp(part[1], "jumps")) jumps();
    if (!strcmp(part[1], "threads")) threads();
    if (!strcmp(part[1], "forks")) forks();
    if (!strcmp(part[1], "panic")) {
        wrong += syscall(HANDLED, 1) != -1 || errno != EIO;
        sum(5, 6);
    }
    if (!strcmp(part[1], "rewritten")) wrong += syscall(HANDLED, 2, SYS_getpid) != getpid();
    puts(wrong ? "bad" : "good");
    return wrong != 0;
}
