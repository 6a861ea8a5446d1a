/* What namespaces.sh runs on each node. count DIR ME N: raises a counter under a lock and moves a file, N times.
   hold DIR: takes a lock, says so, and writes when told. wait DIR: takes the lock that another holds.
   orphans DIR: has a file without a name and one whose name is gone; says when told whether their bytes are there.
   append DIR ME N: appends N lines to one file. sync DIR: writes, and syncs twice when told.
   circle DIR MINE OTHER: locks one byte, and when told waits for another; keeps both until told again. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static long must(long result, const char *what)
{
    if (result >= 0) return result;
    printf("%s: %s\n", what, strerrorname_np(errno));
    exit(1);
}

static void raise_counter(int fd)
{
    char text[32] = "";
    must(flock(fd, LOCK_EX), "flock");
    must(pread(fd, text, sizeof text - 1, 0), "pread");
    int n = snprintf(text, sizeof text, "%d\n", atoi(text) + 1);
    must(pwrite(fd, text, n, 0), "pwrite");
    must(flock(fd, LOCK_UN), "unlock");
}

static void count(const char *me, int rounds)
{
    int fd = must(open("counter", O_RDWR | O_CREAT, 0644), "open counter");
    for (int i = 0; i < rounds; i++) {
        char from[64], to[64];
        snprintf(from, sizeof from, "todo/%s-%d", me, i);
        snprintf(to, sizeof to, "done/%s-%d", me, i);
        close(must(open(from, O_WRONLY | O_CREAT | O_EXCL, 0644), "create"));
        must(rename(from, to), "rename");
        raise_counter(fd);
        if (i == 0) puts("under way"), fflush(stdout);
    }
    puts("finished");
}

static void hold(void)
{
    char c;
    int fd = must(open("held", O_RDWR | O_CREAT, 0644), "open");
    must(flock(fd, LOCK_EX), "flock");
    must(pwrite(fd, "first", 5, 0), "pwrite");
    puts("held");
    fflush(stdout);
    must(read(0, &c, 1), "read");
    must(pwrite(fd, "stale", 5, 0), "pwrite");
    puts("wrote");
}

enum { BIG = 4 << 20 };

static void say(const char *text)
{
    puts(text);
    fflush(stdout);
}

static int heard(void)
{
    char c;
    return must(read(0, &c, 1), "read") == 1;
}

/* Writes bytes of which each is known, and says whether they can be read. */
static void put(int fd, char mark)
{
    char *bytes = memset(malloc(BIG), mark, BIG);
    must(pwrite(fd, bytes, BIG, 0), "pwrite");
    must(fsync(fd), "fsync");
    free(bytes);
}

static const char *look(int fd, char mark)
{
    char *bytes = calloc(1, BIG);
    ssize_t n = pread(fd, bytes, BIG, 0);
    const char *found = n < 0 ? strerrorname_np(errno) : n == BIG ? "there" : "short";
    for (int i = 0; i < BIG && n == BIG; i++)
        if (bytes[i] != mark) found = "other bytes";
    free(bytes);
    return found;
}

static void orphans(void)
{
    int nameless = must(open(".", O_TMPFILE | O_RDWR, 0600), "O_TMPFILE");
    int gone = must(open("gone", O_RDWR | O_CREAT | O_EXCL, 0600), "open");
    must(unlink("gone"), "unlink");
    put(nameless, 'n');
    put(gone, 'g');
    say("open");
    while (heard()) {
        const char *a = look(nameless, 'n'), *b = look(gone, 'g');
        printf("%s, %s\n", a, b);
        fflush(stdout);
    }
}

static void append(const char *me, int lines)
{
    int fd = must(open("appended", O_WRONLY | O_CREAT | O_APPEND, 0644), "open");
    for (int i = 0; i < lines; i++) {
        char line[3000];
        int n = snprintf(line, sizeof line, "%s %d %0*d\n", me, i, 1 + i * 37 % 2900, 0);
        must(write(fd, line, n) == n ? 0 : -1, "write");
        if (i == 0) say("under way");
    }
    puts("finished");
}

static void sync_twice(void)
{
    int fd = must(open("synced", O_RDWR | O_CREAT, 0644), "open");
    must(pwrite(fd, "written", 7, 0), "pwrite");
    say("written");
    heard();
    for (int i = 0; i < 2; i++) say(fsync(fd) < 0 ? strerrorname_np(errno) : "synced");
}

static void circle(const char *mine, const char *other)
{
    struct flock l = {.l_type = F_WRLCK, .l_len = 1};
    int own = must(open(mine, O_RDWR | O_CREAT, 0644), "open"), its = must(open(other, O_RDWR | O_CREAT, 0644), "open");
    must(fcntl(own, F_SETLK, &l), "F_SETLK");
    say("held");
    heard();
    say(fcntl(its, F_SETLKW, &l) < 0 ? strerrorname_np(errno) : "got it");
    heard();
}

int main(int argc, char **argv)
{
    must(chdir(argv[2]), "chdir");
    if (!strcmp(argv[1], "count") && argc == 5) count(argv[3], atoi(argv[4]));
    else if (!strcmp(argv[1], "hold")) hold();
    else if (!strcmp(argv[1], "orphans")) orphans();
    else if (!strcmp(argv[1], "append") && argc == 5) append(argv[3], atoi(argv[4]));
    else if (!strcmp(argv[1], "sync")) sync_twice();
    else if (!strcmp(argv[1], "circle") && argc == 5) circle(argv[3], argv[4]);
    else {
        int fd = must(open("held", O_RDWR), "open");
        must(flock(fd, LOCK_EX), "flock");
        must(pwrite(fd, "other", 5, 0), "pwrite");
        puts("got it");
    }
    return 0;
}
