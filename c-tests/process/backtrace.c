/* backtrace() from a handler that interrupts a blocked read goes as deep as it should; so does one below file calls. */
#include "ct.h"
#include <execinfo.h>

static int pipe_fds[2];
static volatile int depth, names_main;

static void handler(int signal)
{
    void *frames[50];
    (void)signal;
    depth = backtrace(frames, 50);
    OK(write(pipe_fds[1], "x", 1));
}

static __attribute__((noinline)) int level(int n)
{
    char c;
    int r = n ? level(n - 1) + 1 : (int)read(pipe_fds[0], &c, 1);
    __asm__ volatile("" : "+r"(r));
    return r;
}

static void test(void)
{
    void *frames[50];
    struct sigaction act = {.sa_handler = handler, .sa_flags = SA_RESTART};
    OK(pipe(pipe_fds));
    backtrace(frames, 50);
    OK(sigaction(SIGALRM, &act, NULL));
    for (int n = 0; n < 3; n++) {
        struct itimerval t = {{0, 0}, {0, 50000}};
        setitimer(ITIMER_REAL, &t, NULL);
        T(level(n * 3));
        printf("frames: %d\n", depth);
    }
}
