/* Threads of one process that wait for each other's descriptions: flock and OFD locks; others go on meanwhile. */
#include "ct.h"

static int ready[2];

static int take(int fd, int kind)
{
    struct flock l = {.l_type = F_WRLCK};
    return kind ? fcntl(fd, F_OFD_SETLKW, &l) : flock(fd, LOCK_EX);
}

static void drop(int fd, int kind)
{
    struct flock l = {.l_type = F_UNLCK};
    if (kind) OK(fcntl(fd, F_OFD_SETLK, &l));
    else OK(flock(fd, LOCK_UN));
}

struct job { const char *file; int kind, result; };

static void *waiter(void *argument)
{
    struct job *job = argument;
    int fd = OK(open(job->file, O_RDWR));
    OK(write(ready[1], "w", 1));
    job->result = take(fd, job->kind);
    OK(pwrite(fd, "got it", 6, 0));
    close(fd);
    return NULL;
}

/* Two threads wait, each for a lock of ours; we write, release the second one's first, then the other's. */
static void round_of(int kind)
{
    char c, text[7] = "";
    int a = OK(open("a", O_CREAT | O_RDWR, 0644)), b = OK(open("b", O_CREAT | O_RDWR, 0644));
    struct job jobs[2] = {{"a", kind, -1}, {"b", kind, -1}};
    pthread_t threads[2];
    OK(take(a, kind));
    OK(take(b, kind));
    for (int i = 0; i < 2; i++) {
        pthread_create(&threads[i], NULL, waiter, &jobs[i]);
        OK(read(ready[0], &c, 1));
    }
    struct timespec pause = {0, 50000000};
    nanosleep(&pause, NULL);
    OK(pwrite(a, "ours", 4, 0));
    OK(pwrite(b, "ours", 4, 0));
    drop(b, kind);
    pthread_join(threads[1], NULL);
    OK(pread(b, text, 6, 0));
    printf("%s: %d, %s\n", kind ? "ofd" : "flock", jobs[1].result, text);
    drop(a, kind);
    pthread_join(threads[0], NULL);
    OK(pread(a, text, 6, 0));
    printf("%s: %d, %s\n", kind ? "ofd" : "flock", jobs[0].result, text);
    close(a);
    close(b);
}

static void test(void)
{
    OK(pipe(ready));
    round_of(0);
    round_of(1);
}
