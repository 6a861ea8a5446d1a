/* Signals during file work: handlers that do file work themselves, many alarms while reading and writing. */
#include "ct.h"

static volatile int count;
static int log_fd;

static void handler(int signal)
{
    (void)signal;
    int saved = errno;
    char text[8];
    count++;
    if (write(log_fd, "tick\n", 5) != 5) _exit(50);
    int fd = open("g", O_RDONLY);
    if (fd < 0 || read(fd, text, 4) != 4 || memcmp(text, "data", 4)) _exit(51);
    close(fd);
    errno = saved;
}

static void test(void)
{
    static char block[20000], back[20000];
    struct sigaction act = {.sa_handler = handler, .sa_flags = SA_RESTART};
    struct itimerval t = {{0, 2000}, {0, 2000}}, off = {{0, 0}, {0, 0}};
    ct_put("g", "data");
    log_fd = OK(open("log", O_CREAT | O_WRONLY | O_APPEND, 0644));
    int fd = OK(open("f", O_CREAT | O_RDWR, 0644)), wrong = 0;
    OK(sigaction(SIGALRM, &act, NULL));
    OK(setitimer(ITIMER_REAL, &t, NULL));
    for (int i = 0; i < 300 || count < 20; i++) {
        ct_fill(block, sizeof block, i);
        if (pwrite(fd, block, sizeof block, 0) != sizeof block) wrong++;
        if (pread(fd, back, sizeof back, 0) != sizeof back || memcmp(block, back, sizeof back)) wrong++;
        if (access("g", R_OK) || access("none", R_OK) == 0 || errno != ENOENT) wrong++;
        if (i > 100000) break;
    }
    OK(setitimer(ITIMER_REAL, &off, NULL));
    printf("wrong %d\n", wrong);
    YES(count >= 20);
    struct stat st;
    OK(stat("log", &st));
    YES(st.st_size == 5L * count);
    CHILD("killed in the middle of work") {
        signal(SIGTERM, SIG_DFL);
        alarm(1);
        struct itimerval die = {{0, 0}, {0, 20000}};
        act.sa_handler = SIG_DFL;
        OK(sigaction(SIGALRM, &act, NULL));
        OK(setitimer(ITIMER_REAL, &die, NULL));
        for (;;) OK(pwrite(fd, block, sizeof block, 0));
    }
    T(ftruncate(fd, 0));
}
