/* What namespaces.sh runs on each node. count DIR ME N: raises a counter under a lock and moves a file, N times.
   hold DIR: takes a lock, says so, and writes when told. wait DIR: takes the lock that another holds. */
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

int main(int argc, char **argv)
{
    must(chdir(argv[2]), "chdir");
    if (!strcmp(argv[1], "count") && argc == 5) count(argv[3], atoi(argv[4]));
    else if (!strcmp(argv[1], "hold")) hold();
    else {
        int fd = must(open("held", O_RDWR), "open");
        must(flock(fd, LOCK_EX), "flock");
        must(pwrite(fd, "other", 5, 0), "pwrite");
        puts("got it");
    }
    return 0;
}
