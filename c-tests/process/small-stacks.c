/* File calls on the smallest thread stacks and in handlers on an alternate stack of 8 KiB. */
#include "ct.h"

static volatile int handled;

static void handler(int signal)
{
    struct stat st;
    char text[8];
    (void)signal;
    int fd = open("f", O_RDWR);
    if (fd >= 0 && pread(fd, text, 4, 0) == 4 && pwrite(fd, "alt", 3, 10) == 3 && fstat(fd, &st) == 0 && stat("none", &st) < 0 &&
        close(fd) == 0 && rename("a", "b") == 0 && rename("b", "a") == 0)
        handled++;
}

static void *on_small_stack(void *unused)
{
    struct stat st;
    char text[64];
    (void)unused;
    for (int i = 0; i < 50; i++) {
        int fd = open("f", O_RDWR);
        if (fd < 0 || pread(fd, text, sizeof text, 0) < 4 || pwrite(fd, text, 4, 0) != 4 || stat("d/../f", &st) || close(fd))
            return (void *)1;
    }
    return NULL;
}

static void test(void)
{
    pthread_attr_t small;
    pthread_t threads[4];
    ct_put("f", "data and more data");
    ct_put("a", "");
    mkdir("d", 0755);
    TE(pthread_attr_init(&small));
    TE(pthread_attr_setstacksize(&small, PTHREAD_STACK_MIN));
    for (int t = 0; t < 4; t++) TE(pthread_create(&threads[t], &small, on_small_stack, NULL));
    for (int t = 0; t < 4; t++) {
        void *result;
        pthread_join(threads[t], &result);
        printf("thread: %s\n", result ? "failed" : "good");
    }
    static char alternate[8192];
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
    struct sigaction act = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
    T(sigaltstack(&stack, NULL));
    T(sigaction(SIGUSR1, &act, NULL));
    for (int i = 0; i < 10; i++) raise(SIGUSR1);
    printf("handled %d\n", handled);
    ct_cat("f");
}
