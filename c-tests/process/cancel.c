/* pthread_cancel of threads blocked in read, in a lock and between file calls: cleanup handlers run, nothing stays locked. */
#include "ct.h"

static int pipe_fds[2], started[2], file;
static volatile int cleaned;

static const char *cleaned_what;

static void clean(void *what)
{
    cleaned++;
    cleaned_what = what;
}

static void *blocked_in_read(void *unused)
{
    char c;
    (void)unused;
    pthread_cleanup_push(clean, "read");
    OK(write(started[1], "x", 1));
    if (read(pipe_fds[0], &c, 1)) puts("not reached");
    pthread_cleanup_pop(0);
    return NULL;
}

static void *busy_with_files(void *unused)
{
    char text[100];
    (void)unused;
    pthread_cleanup_push(clean, "files");
    OK(write(started[1], "x", 1));
    for (;;) {
        if (pwrite(file, text, sizeof text, 0) != sizeof text || pread(file, text, sizeof text, 0) != sizeof text) puts("short");
    }
    pthread_cleanup_pop(0);
    return NULL;
}

static void *blocked_in_lock(void *unused)
{
    struct flock l = {.l_type = F_WRLCK};
    (void)unused;
    pthread_cleanup_push(clean, "lock");
    OK(write(started[1], "x", 1));
    if (fcntl(file, F_OFD_SETLKW, &l) == 0) puts("not reached");
    pthread_cleanup_pop(0);
    return NULL;
}

static void cancelled(const char *label, void *(*function)(void *))
{
    pthread_t thread;
    void *result;
    char c;
    pthread_create(&thread, NULL, function, NULL);
    OK(read(started[0], &c, 1));
    struct timespec pause = {0, 30000000};
    nanosleep(&pause, NULL);
    TE(pthread_cancel(thread));
    TE(pthread_join(thread, &result));
    printf("%s: cancelled %d, cleanup of %s\n", label, result == PTHREAD_CANCELED, cleaned_what);
}

static void test(void)
{
    OK(pipe(pipe_fds));
    OK(pipe(started));
    file = OK(open("f", O_CREAT | O_RDWR, 0644));
    cancelled("read", blocked_in_read);
    for (int i = 0; i < 20; i++) cancelled("files", busy_with_files);
    int other = OK(open("f", O_RDWR));
    struct flock l = {.l_type = F_WRLCK};
    OK(fcntl(other, F_OFD_SETLK, &l));
    cancelled("lock", blocked_in_lock);
    l.l_type = F_UNLCK;
    OK(fcntl(other, F_OFD_SETLK, &l));
    l.l_type = F_WRLCK;
    T(fcntl(file, F_OFD_SETLK, &l));
    printf("cleaned %d\n", cleaned);
    ct_stat("f");
}
