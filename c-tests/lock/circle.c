/* Circles of F_SETLKW over files in different directories (on sealfs: on different servers) and several processes: one of
   the circle gets EDEADLK, whichever, the others go on waiting; OFD locks and flock are not looked at. */
#include "ct.h"

enum { MANY = 6 };
static int file[MANY], tell[MANY][2], hear[2];

static int posix(int n, int cmd, int type)
{
    struct flock l = {.l_type = type, .l_len = 1};
    return fcntl(file[n], cmd, &l);
}

static void pause_ms(int ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
    nanosleep(&t, NULL);
}

/* What came of a wait of member n. */
struct word {
    char n, what;
};

static void say(int n, int r)
{
    struct word word = {(char)n, r == 0 ? 'g' : errno == EDEADLK ? 'D' : errno == EINTR ? 'i' : '?'};
    OK(write(hear[1], &word, sizeof word));
}

static struct word next_word(void)
{
    struct word word = {0, 0};
    OK(read(hear[0], &word, sizeof word));
    return word;
}

/* Holds file n; when told, waits for file next and says what came of it; keeps all until told. */
static void worker(int n, int next)
{
    char c;
    int r = OK(posix(n, F_SETLKW, F_WRLCK));
    say(n, r);
    OK(read(tell[n][0], &c, 1));
    r = posix(next, F_SETLKW, F_WRLCK);
    say(n, r);
    OK(read(tell[n][0], &c, 1));
    _exit(0);
}

/* Workers 0..size form a circle that worker `last` closes. Everybody else waits by then, and goes on when the one that
   it waits for ends: the one that was refused is the first to do so. */
static void circle(int size, int last)
{
    pid_t pid[MANY];
    int refused = 0, got = 0, first = 0;
    for (int n = 0; n < size; n++) {
        pid[n] = ct_fork();
        if (pid[n] == 0) worker(n, (n + 1) % size);
        next_word();
    }
    for (int n = 0; n < size; n++)
        if (n != last) OK(write(tell[n][1], "w", 1));
    pause_ms(150);
    OK(write(tell[last][1], "w", 1));
    for (int i = 0; i < size; i++) {
        struct word word = next_word();
        refused += word.what == 'D';
        got += word.what == 'g';
        first += i == 0 && word.what == 'D';
        OK(write(tell[(int)word.n][1], "e", 1));
    }
    printf("%d processes, closed by %d: %d refused, %d of them first, %d got it\n", size, last, refused, first, got);
    for (int n = 0; n < size; n++) ct_wait("worker", pid[n]);
}

/* Two processes that wait for each other by locks that are not looked at: both wait until a signal comes. */
static void on_alarm(int signal) { (void)signal; }

static int other_lock(int fd, int kind, int wait)
{
    struct flock l = {.l_type = F_WRLCK, .l_len = 1};
    if (kind == 0) return fcntl(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, &l);
    return flock(fd, LOCK_EX | (wait ? 0 : LOCK_NB));
}

static void not_looked_at(int kind)
{
    pid_t pid[2];
    char c;
    for (int n = 0; n < 2; n++) {
        pid[n] = ct_fork();
        if (pid[n] == 0) {
            struct sigaction action = {.sa_handler = on_alarm};
            OK(sigaction(SIGALRM, &action, NULL));
            char name[2][8];
            sprintf(name[0], "%d/f", n);
            sprintf(name[1], "%d/f", 1 - n);
            int own = OK(open(name[0], O_RDWR)), its = OK(open(name[1], O_RDWR));
            OK(other_lock(own, kind, 0));
            say(n, 0);
            OK(read(tell[n][0], &c, 1));
            struct itimerval in = {{0, 0}, {0, 300000 + n * 200000}};
            OK(setitimer(ITIMER_REAL, &in, NULL));
            say(n, other_lock(its, kind, 1));
            OK(read(tell[n][0], &c, 1));
            _exit(0);
        }
        next_word();
    }
    for (int n = 0; n < 2; n++) OK(write(tell[n][1], "w", 1));
    int interrupted = 0;
    for (int n = 0; n < 2; n++) interrupted += next_word().what == 'i';
    printf("%s: %d waited until the signal\n", kind ? "flock" : "ofd", interrupted);
    for (int n = 0; n < 2; n++) OK(write(tell[n][1], "e", 1));
    for (int n = 0; n < 2; n++) ct_wait("one of two", pid[n]);
}

static void test(void)
{
    OK(pipe(hear));
    for (int n = 0; n < MANY; n++) {
        char name[8];
        sprintf(name, "%d", n);
        OK(mkdir(name, 0755));
        sprintf(name, "%d/f", n);
        file[n] = OK(open(name, O_CREAT | O_RDWR, 0644));
        OK(pipe(tell[n]));
    }
    for (int size = 2; size <= MANY; size++) {
        circle(size, 0);
        circle(size, size - 1);
    }
    circle(4, 2);
    not_looked_at(0);
    not_looked_at(1);
}
