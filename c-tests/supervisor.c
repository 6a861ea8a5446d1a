/* What a program does that no library is loaded into: system calls of its own, printed as they answer. Works in the
 * directory that it is given, which it makes. With RAW the calls are made by instructions of the program itself. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef RAW
static long sys(long nr, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    long said;
    __asm__ volatile("syscall" : "=a"(said) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
    return said;
}
#else
static long sys(long nr, long a, long b, long c, long d, long e, long f)
{
    long said = syscall(nr, a, b, c, d, e, f);
    return said < 0 ? -errno : said;
}
#endif
#define P(x) ((long)(uintptr_t)(x))
#define S6(nr, a, b, c, d, e, f, ...) sys(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define S(...) S6(__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define T(...) told(#__VA_ARGS__, S(SYS_##__VA_ARGS__))

static long told(const char *what, long said)
{
    printf("%s: %ld\n", what, said);
    fflush(stdout);
    return said;
}

struct entry { uint64_t ino, off; unsigned short len; char type; char name[]; };

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void list(const char *path)
{
    static char page[32768];
    char *names[64];
    int count = 0;
    long fd = S(SYS_open, P(path), O_RDONLY | O_DIRECTORY), n;
    while ((n = S(SYS_getdents64, fd, P(page), sizeof page)) > 0)
        for (long at = 0; at < n && count < 64; at += ((struct entry *)(page + at))->len)
            names[count++] = strdup(((struct entry *)(page + at))->name);
    qsort(names, count, sizeof *names, by_name);
    printf("%s:", path);
    for (int i = 0; i < count; i++) printf(" %s", names[i]);
    puts("");
    S(SYS_close, fd);
}

static void nothing(int signal) { (void)signal; }

static void *in_a_thread(void *unused)
{
    (void)unused;
    long fd = S(SYS_open, P("by-thread"), O_CREAT | O_WRONLY, 0644);
    S(SYS_write, fd, P("thread"), 6);
    S(SYS_close, fd);
    return NULL;
}

static void files(void)
{
    char text[64] = "";
    struct stat st;
    long fd = T(open, P("f"), O_CREAT | O_RDWR | O_TRUNC, 0640);
    T(write, fd, P("0123456789"), 10);
    T(pread64, fd, P(text), 4, 3);
    T(lseek, fd, 2, SEEK_SET);
    T(read, fd, P(text), 100);
    puts(text);
    T(pwrite64, fd, P("xy"), 2, 20);
    T(fstat, fd, P(&st));
    printf("size %ld mode %o links %ld\n", (long)st.st_size, st.st_mode, (long)st.st_nlink);
    long two = T(dup, fd);
    T(lseek, two, 0, SEEK_CUR);
    T(dup2, two, 33);
    T(write, 33, P("end"), 3);
    T(close, fd);
    T(close, two);
    T(read, two, P(text), 1);
    T(ftruncate, 33, 15);
    T(stat, P("f"), P(&st));
    printf("size %ld\n", (long)st.st_size);
    T(write, 33, 1, 10);
    T(read, 33, P(text), 10);
    T(close, 33);
    T(open, P("none"), O_RDONLY);
    T(open, P("f"), O_RDONLY | O_DIRECTORY);
    T(open, 1, O_RDONLY);
}

static void names(void)
{
    char cwd[4096] = "";
    T(mkdir, P("d"), 0755);
    T(rename, P("f"), P("d/g"));
    list("d");
    T(chdir, P("d"));
    if (S(SYS_getcwd, P(cwd), sizeof cwd) > 0) puts(strrchr(cwd, 47));
    T(symlink, P("g"), P("l"));
    T(link, P("g"), P("h"));
    T(access, P("l"), R_OK);
    T(readlink, P("l"), P(cwd), 1);
    list(".");
    T(unlink, P("l"));
    T(unlink, P("h"));
    T(chmod, P("g"), 0600);
    T(chdir, P(".."));
    T(rmdir, P("d"));
    long dir = T(open, P("d"), O_RDONLY | O_DIRECTORY);
    T(unlinkat, dir, P("g"), 0);
    T(fchdir, dir);
    T(chdir, P("../none"));
    T(chdir, P(".."));
    T(close, dir);
    T(rmdir, P("d"));
    T(rename, P("/proc/version"), P("x"));
    list(".");
}

static void memory(void)
{
    long fd = S(SYS_open, P("m"), O_CREAT | O_RDWR, 0644);
    S(SYS_write, fd, P("mapped bytes"), 12);
    char *at = (char *)S(SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    printf("private: %.12s\n", at);
    memcpy(at, "MINE", 4);
    char text[13] = "";
    S(SYS_pread64, fd, P(text), 12, 0);
    printf("the file: %s, the mapping: %.12s\n", text, at);
    T(munmap, P(at), 4096);
    at = (char *)S(SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    memcpy(at, "BOTH", 4);
    S(SYS_msync, P(at), 4096, MS_SYNC);
    S(SYS_pread64, fd, P(text), 12, 0);
    printf("shared: %s\n", text);
    T(munmap, P(at), 4096);
    T(close, fd);
}

static void children(const char *self)
{
    char text[64] = "";
    int status, pipes[2];
    long fd = S(SYS_open, P("shared"), O_CREAT | O_RDWR, 0644);
    pid_t pid = fork();
    if (pid == 0) {
        S(SYS_write, fd, P("child "), 6);
        S(SYS_chdir, P("/"));
        _exit(7);
    }
    waitpid(pid, &status, 0);
    printf("child: %d\n", WEXITSTATUS(status));
    S(SYS_write, fd, P("parent"), 6);
    S(SYS_pread64, fd, P(text), 60, 0);
    puts(text);
    if (pipe(pipes)) exit(1);
    pid = fork();
    if (pid == 0) {
        dup2(fd, 0);
        dup2(pipes[1], 1);
        char *const list[] = {(char *)self, "-", "a b", NULL};
        S(SYS_lseek, 0, 6, SEEK_SET);
        S(SYS_execve, P(self), P(list), P(environ));
        _exit(9);
    }
    close(pipes[1]);
    long n = read(pipes[0], text, 63);
    waitpid(pid, &status, 0);
    text[n > 0 ? n : 0] = 0;
    printf("executed: %d, %s", WEXITSTATUS(status), text);
    pid = fork();
    if (pid == 0) {
        S(SYS_open, P("killed"), O_CREAT | O_WRONLY, 0644);
        raise(SIGKILL);
    }
    waitpid(pid, &status, 0);
    printf("killed: %d\n", WTERMSIG(status));
    pthread_t thread;
    pthread_create(&thread, NULL, in_a_thread, NULL);
    pthread_join(thread, NULL);
    list(".");
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "-")) {
        char text[64] = "";
        long n = S(SYS_read, 0, P(text), 60);
        printf("%s, %ld: %s\n", argv[2], n, text);
        return 5;
    }
    if (argc == 3 && !strcmp(argv[1], "wait")) { /* opens a file, says so and waits for a signal */
        alarm(30); /* a signal that does not come is no end of the test */
        S(SYS_open, P(argv[2]), O_CREAT | O_WRONLY, 0644);
        puts("open");
        fflush(stdout);
        for (;;) S(SYS_close, S(SYS_open, P("/etc/passwd"), O_RDONLY));
    }
    if (argc == 4 && !strcmp(argv[1], "cost")) { /* nanoseconds of calls on a file, many times */
        char byte;
        struct timespec from, to;
        long fd = S(SYS_open, P(argv[2]), O_CREAT | O_RDWR, 0644), count = atol(argv[3]);
        S(SYS_write, fd, P("x"), 1);
        clock_gettime(CLOCK_MONOTONIC, &from);
        for (long i = 0; i < count; i++) S(SYS_pread64, fd, P(&byte), 1, 0);
        clock_gettime(CLOCK_MONOTONIC, &to);
        printf("%ld ns\n", ((to.tv_sec - from.tv_sec) * 1000000000 + to.tv_nsec - from.tv_nsec) / count);
        return 0;
    }
    if (argc == 3 && !strcmp(argv[1], "ended")) { /* calls that the end of a child interrupts, as a shell would see them */
        struct sigaction action = {.sa_handler = nothing};
        sigaction(SIGCHLD, &action, NULL);
        long ended = 0;
        for (int i = atoi(argv[2]); i; i--) {
            int pipes[2];
            if (pipe(pipes)) exit(1);
            pid_t pid = fork();
            if (pid == 0) _exit(0);
            if (pid < 0) ended++;
            ended += S(SYS_close, pipes[0]) == -EINTR;
            ended += S(SYS_close, pipes[1]) == -EINTR;
            long fd = S(SYS_open, P("/etc/passwd"), O_RDONLY);
            ended += fd == -EINTR;
            ended += S(SYS_close, fd) == -EINTR;
            while (waitpid(-1, NULL, WNOHANG) > 0) {}
        }
        printf("%ld ended\n", ended);
        return 0;
    }
    if (S(SYS_mkdir, P(argv[1]), 0755) || S(SYS_chdir, P(argv[1]))) return 98;
    umask(022);
    files();
    names();
    memory();
    children(argv[2]);
    return 4;
}
