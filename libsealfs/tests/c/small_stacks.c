/* Calls from threads with the smallest stack there is, and from handlers on small signal stacks. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static volatile int results;

static void calls(void) {
    struct stat facts;
    char room[64];
    int file = open("/etc/passwd", O_RDONLY);
    results += file >= 0 && read(file, room, sizeof room) > 0 && close(file) == 0;
    results += stat("/nonexistent", &facts) == -1 && errno == ENOENT;
    results += syscall(SYS_getcwd, room, sizeof room) > 0;
    results += rename("/nonexistent", "/nonexistent/x") == -1;
    results += open((char *)1, O_RDONLY) == -1 && errno == EFAULT;
}

static void *thread(void *unused) { (void)unused; calls(); return NULL; }
static void handler(int signal) { (void)signal; calls(); }

int main(void) {
    pthread_attr_t attributes;
    pthread_t small;
    /* What the kernel puts on a signal stack, and four kilobytes for two handlers in a row. */
    size_t frame = getauxval(AT_MINSIGSTKSZ) ? getauxval(AT_MINSIGSTKSZ) : 2048;
    size_t size = 2 * frame + 4096;
    stack_t stack = {.ss_sp = malloc(size), .ss_size = size};
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
    if (chdir("/")) return 1;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, PTHREAD_STACK_MIN);
    for (int i = 0; i < 200; i++) {
        if (pthread_create(&small, &attributes, thread, NULL)) return 2;
        pthread_join(small, NULL);
    }
    sigaltstack(&stack, NULL);
    sigaction(SIGUSR1, &action, NULL);
    for (int i = 0; i < 200; i++) raise(SIGUSR1);
    printf("%d\n", results);
    return 0;
}
