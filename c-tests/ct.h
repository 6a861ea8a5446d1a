/* ct.h: what every program in c-tests shares.
 *
 * A program is the POSIX contract of one thing. It is started as `PROGRAM DIR`; main() below makes DIR, goes there and
 * calls test(), which prints facts: results, errnos by name, contents, modes, relations. The same program runs on a
 * local directory and on sealfs and must print the same, so nothing absolute may be printed: no inode numbers, times,
 * pids or paths. T() prints the source of a call and what it returned; a difference then names the call by itself.
 */
#ifndef CT_H
#define CT_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

static char ct_dir[PATH_MAX]; /* the absolute path of the directory the test works in */
#define BAD ((void *)8)       /* a pointer that is mapped nowhere */
#define CT_NOBODY 65534

static inline const char *ct_errname(int e)
{
    const char *name = strerrorname_np(e);
    return name ? name : "E?";
}

/* Prints "SOURCE = RESULT", or "SOURCE = -1 ERRNO"; returns the result. */
static inline long ct_result(const char *source, long result)
{
    if (result == -1)
        printf("%s = -1 %s\n", source, ct_errname(errno));
    else
        printf("%s = %ld\n", source, result);
    return result;
}
#define T(call) ct_result(#call, (long)(call))

/* As T, for a call that returns 0 or an errno. */
#define TE(call) ({ int ct_e = (call); printf("%s = %s\n", #call, ct_e ? ct_errname(ct_e) : "0"); ct_e; })

/* As T, for a call that returns a descriptor: its number is not printed. */
static inline int ct_fd(const char *source, int fd)
{
    printf("%s = %s\n", source, fd >= 0 ? "fd" : ct_errname(errno));
    return fd;
}
#define F(call) ct_fd(#call, (call))

/* As T, for a call that returns a pointer. */
#define P(call) ({ __typeof__(call) ct_p = (call); \
    printf("%s = %s\n", #call, ct_p && (void *)ct_p != MAP_FAILED ? "pointer" : ct_errname(errno)); ct_p; })

/* Prints a truth. */
#define YES(fact) printf("%s: %s\n", #fact, (fact) ? "yes" : "NO")

/* Set-up that must work; a failure ends the test. */
#define OK(call) ({ __typeof__(call) ct_r = (call); \
    if (ct_r == (__typeof__(call))-1) { printf("%s:%d: %s: %s\n", __FILE_NAME__, __LINE__, #call, ct_errname(errno)); exit(99); } ct_r; })

/* Prints bytes, the unprintable escaped. */
static inline void ct_bytes(const char *label, const void *data, size_t n)
{
    printf("%s: %zu \"", label, n);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = ((const unsigned char *)data)[i];
        if (c == '\n') fputs("\\n", stdout);
        else if (c < 32 || c > 126 || c == '"') printf("\\x%02x", c);
        else putchar(c);
    }
    puts("\"");
}

static inline ssize_t ct_read_all(int fd, void *data, size_t n)
{
    size_t got = 0;
    while (got < n) {
        ssize_t r = read(fd, (char *)data + got, n - got);
        if (r < 0) return -1;
        if (r == 0) break;
        got += r;
    }
    return got;
}

/* Makes PATH with CONTENT (mode 0644). */
static inline void ct_put(const char *path, const char *content)
{
    int fd = OK(open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644));
    size_t n = strlen(content);
    if (write(fd, content, n) != (ssize_t)n) { printf("ct_put %s: %s\n", path, ct_errname(errno)); exit(99); }
    OK(close(fd));
}

/* Prints what PATH holds (small files). */
static inline void ct_cat(const char *path)
{
    static char text[65536];
    int fd = open(path, O_RDONLY);
    if (fd < 0) { printf("%s: %s\n", path, ct_errname(errno)); return; }
    ssize_t n = ct_read_all(fd, text, sizeof text);
    if (n < 0) printf("%s: read %s\n", path, ct_errname(errno));
    else ct_bytes(path, text, n);
    close(fd);
}

static inline char ct_type(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFREG: return 'f';
    case S_IFDIR: return 'd';
    case S_IFLNK: return 'l';
    case S_IFIFO: return 'p';
    case S_IFSOCK: return 's';
    case S_IFCHR: return 'c';
    case S_IFBLK: return 'b';
    default: return '?';
    }
}

/* Prints type, mode, links and (not for directories) size of PATH itself. */
static inline void ct_stat(const char *path)
{
    struct stat st;
    if (lstat(path, &st) < 0) { printf("%s: %s\n", path, ct_errname(errno)); return; }
    printf("%s: %c %04o links %lu", path, ct_type(st.st_mode), st.st_mode & 07777, (unsigned long)st.st_nlink);
    if (!S_ISDIR(st.st_mode)) printf(" size %lld", (long long)st.st_size);
    puts("");
}

static inline int ct_by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Prints the sorted names of a directory, with their types as lstat tells. */
static inline void ct_ls(const char *path)
{
    enum { MANY = 20000 };
    static char *names[MANY];
    size_t n = 0;
    DIR *d = opendir(path);
    if (!d) { printf("ls %s: %s\n", path, ct_errname(errno)); return; }
    for (struct dirent *e; n < MANY && (e = readdir(d));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) names[n++] = strdup(e->d_name);
    qsort(names, n, sizeof *names, ct_by_name);
    printf("ls %s:", path);
    for (size_t i = 0; i < n; i++) {
        struct stat st;
        int r = fstatat(dirfd(d), names[i], &st, AT_SYMLINK_NOFOLLOW);
        printf(" %s%s%c", names[i], r ? "!" : "/", r ? '?' : ct_type(st.st_mode));
        free(names[i]);
    }
    puts("");
    closedir(d);
}

/* A path with the test's own directory replaced by $D. */
static inline const char *ct_rel(const char *path)
{
    static char texts[4][PATH_MAX + 8];
    static int turn;
    char *text = texts[turn++ & 3];
    size_t n = strlen(ct_dir);
    if (!path) return "(null)";
    if (!strncmp(path, ct_dir, n) && (path[n] == 0 || path[n] == '/')) snprintf(text, sizeof texts[0], "$D%s", path + n);
    else snprintf(text, sizeof texts[0], "%s", path);
    return text;
}

/* NAME below the test's directory, as an absolute path. */
static inline const char *ct_abs(const char *name)
{
    static char text[4][PATH_MAX + 300];
    static int turn;
    char *t = text[turn++ & 3];
    snprintf(t, sizeof text[0], "%s/%s", ct_dir, name);
    return t;
}

/* Deterministic bytes, different at each place. */
static inline void ct_fill(void *data, size_t n, unsigned seed)
{
    uint32_t x = seed * 2654435761u + 1;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        ((unsigned char *)data)[i] = x >> 24;
    }
}

static inline uint64_t ct_hash(const void *data, size_t n)
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < n; i++) h = (h ^ ((const unsigned char *)data)[i]) * 1099511628211u;
    return h;
}

/* Prints size and hash of PATH. */
static inline void ct_sum(const char *path)
{
    static unsigned char text[65536];
    uint64_t h = 14695981039346656037u;
    long long size = 0;
    int fd = open(path, O_RDONLY);
    if (fd < 0) { printf("sum %s: %s\n", path, ct_errname(errno)); return; }
    for (ssize_t r; (r = read(fd, text, sizeof text)) != 0; size += r) {
        if (r < 0) { printf("sum %s: read %s\n", path, ct_errname(errno)); break; }
        for (ssize_t i = 0; i < r; i++) h = (h ^ text[i]) * 1099511628211u;
    }
    printf("sum %s: %lld %016llx\n", path, size, (unsigned long long)h);
    close(fd);
}

/* Waits for a child and prints how it ended. */
static inline int ct_wait(const char *label, pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) { printf("%s: waitpid %s\n", label, ct_errname(errno)); return -1; }
    if (WIFSIGNALED(status)) printf("%s: killed by SIG%s\n", label, sigabbrev_np(WTERMSIG(status)));
    else printf("%s: exit %d\n", label, WEXITSTATUS(status));
    return status;
}

/* CHILD(label) { ... } runs the block in a forked child and waits for it. */
static inline pid_t ct_fork(void)
{
    fflush(stdout);
    return OK(fork());
}
#define CHILD(label) \
    for (pid_t ct_pid = ct_fork(), ct_once = 1; ct_once; ct_once = 0, ct_pid ? (void)ct_wait(label, ct_pid) : _exit(0)) \
        if (ct_pid == 0)

/* Drops to the user nobody for good; 0 if this process is not root (the caller then prints the same facts itself). */
static inline int ct_become_nobody(void)
{
    if (geteuid() != 0) return 0;
    OK(setgroups(0, NULL));
    OK(setresgid(CT_NOBODY, CT_NOBODY, CT_NOBODY));
    OK(setresuid(CT_NOBODY, CT_NOBODY, CT_NOBODY));
    return 1;
}

static void test(void);
#ifdef CT_HELPER
static int helper(int argc, char **argv); /* what the program does when a test executes it again: PROGRAM DIR WORDS... */
#endif

int main(int argc, char **argv)
{
#ifdef CT_HELPER
    if (argc > 2) return helper(argc - 2, argv + 2);
#endif
    if (argc < 2) { fprintf(stderr, "usage: %s DIR\n", argv[0]); return 2; }
    setvbuf(stdout, NULL, _IOLBF, 1 << 16);
    umask(022);
    if (mkdir(argv[1], 0755) < 0 || chdir(argv[1]) < 0 || !getcwd(ct_dir, sizeof ct_dir)) {
        printf("cannot work in the directory: %s\n", ct_errname(errno));
        return 98;
    }
    test();
    return 0;
}
#endif
