/* fallocate: the space it gives, as st_blocks tells it, what holes are then, what truncations and punches take of it, times. */
#include "ct.h"

enum { K = 1024, M = 1024 * 1024 };

/* The file takes KIB; a block more may be what a file system keeps its map in. */
static void takes(int fd, long kib)
{
    struct stat st;
    OK(fstat(fd, &st));
    long has = st.st_blocks / 2;
    if (has == kib || has == kib + 4)
        printf("  size %ld, takes %ld KiB\n", (long)st.st_size, kib);
    else
        printf("  size %ld, takes %ld KiB, not %ld\n", (long)st.st_size, has, kib);
}

/* What was only read counts as data on some kernels, as long as it is cached. */
static void seeks(int fd, long from)
{
    OK(fsync(fd));
    OK(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
    T(lseek(fd, from, SEEK_DATA));
    T(lseek(fd, from, SEEK_HOLE));
}

/* Whether all of a range is BYTE. */
static void reads(int fd, long from, long len, int byte)
{
    static char data[2 * M];
    long got = pread(fd, data, len, from), same = 0;
    while (same < got && data[same] == byte) same++;
    printf("  %ld at %ld: %ld are %d\n", got, from, same, byte);
}

static void fill(int fd, long from, long len, int byte)
{
    static char data[2 * M];
    memset(data, byte, len);
    YES(pwrite(fd, data, len, from) == len);
}

static void modes(int fd)
{
    static const int MODES[] = {2, 4, 3 | 16, 2 | 16, 1 | 8, 3 | 8, 0x100, 1 << 30, -1};
    int ro = OK(open("f", O_RDONLY));
    for (unsigned i = 0; i < sizeof MODES / sizeof *MODES; i++) {
        printf("mode %x: ", MODES[i]);
        T(fallocate(fd, MODES[i], 0, 4096));
        T(fallocate(ro, MODES[i], 0, 4096));
        T(fallocate(fd, MODES[i], 0, 0));
    }
    T(fallocate(ro, 0, 0, 0));
    T(fallocate(ro, 0, -1, 1));
    T(fallocate(ro, 0, 0, 1));
    T(fallocate(ro, 0, LONG_MAX, 1));
    T(fallocate(fd, 0, LONG_MAX, 1));
    T(fallocate(fd, FALLOC_FL_KEEP_SIZE, 1L << 62, 1L << 62));
    OK(mkfifo("fifo", 0644));
    T(fallocate(OK(open("fifo", O_RDWR)), 0, 0, 1));
    T(fallocate(OK(open("/dev/null", O_RDWR)), 0, 0, 1));
    T(fallocate(OK(open("f", O_PATH)), 0, 0, 1));
    OK(close(ro));
}

static void past_the_end(int fd)
{
    T(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 5 * M));
    takes(fd, 5 * K);
    T(ftruncate(fd, 3000));
    takes(fd, 4);
    T(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 5 * M));
    T(ftruncate(fd, 3 * M));
    takes(fd, 5 * K);
    reads(fd, 3000, 2 * M, 0);
    T(ftruncate(fd, 2 * M + 10));
    takes(fd, 2 * K + 4);
    T(fallocate(fd, FALLOC_FL_KEEP_SIZE, 2 * M, 3 * M));
    T(truncate("f", 2 * M + 10));
    takes(fd, 2 * K + 4);
    T(fallocate(fd, FALLOC_FL_KEEP_SIZE, 4 * M, 4096));
    takes(fd, 2 * K + 8);
    fill(fd, 4 * M, 10, 5);
    takes(fd, 2 * K + 8);
    reads(fd, 4 * M - 100, 100, 0);
    reads(fd, 4 * M, 4096, 5);
    T(ftruncate(fd, 0));
    takes(fd, 0);
    T(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 100 * K));
    takes(fd, 100);
    OK(close(OK(open("f", O_WRONLY | O_TRUNC))));
    takes(fd, 0);
}

static void inside(int fd)
{
    T(fallocate(fd, 0, 0, 3 * M + 1));
    takes(fd, 3 * K + 4);
    seeks(fd, 0);
    reads(fd, M - 1000, 2 * M, 0);
    fill(fd, M - 10000, 20000, 1);
    seeks(fd, 0);
    seeks(fd, M);
    seeks(fd, 2 * M);
    takes(fd, 3 * K + 4);
    reads(fd, M - 10000, 20000, 1);
    reads(fd, M + 10000, 20000, 0);
    fill(fd, M - 100, 200, 2);
    reads(fd, M - 10000, 9900, 1);
    reads(fd, M - 100, 200, 2);
    T(fallocate(fd, FALLOC_FL_ZERO_RANGE, M - 5000, 10000));
    takes(fd, 3 * K + 4);
    reads(fd, M - 10000, 5000, 1);
    reads(fd, M - 5000, 10000, 0);
    reads(fd, M + 5000, 5000, 1);
    T(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 10, 4096));
    takes(fd, 3 * K + 4);
    T(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2 * M, 8192));
    takes(fd, 3 * K - 4);
    T(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 3 * M, 100 * M));
    takes(fd, 3 * K - 8);
    T(fallocate(fd, FALLOC_FL_ZERO_RANGE, 3 * M - 4096, 20000));
    takes(fd, 3 * K + 8);
    T(fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 4 * M, 4097));
    takes(fd, 3 * K + 16);
    ct_sum("f");
}

static void sparse(int fd)
{
    T(ftruncate(fd, 0));
    T(ftruncate(fd, 4 * M));
    fill(fd, 2 * M, 4096, 3);
    takes(fd, 4);
    T(fallocate(fd, 0, 2 * M - 4096, 3 * 4096));
    takes(fd, 12);
    seeks(fd, 0);
    seeks(fd, 2 * M);
    TE(posix_fallocate(fd, 0, 4 * M));
    takes(fd, 4 * K);
    int to = OK(open("g", O_CREAT | O_RDWR, 0644));
    TE(posix_fallocate(to, 0, 4 * M));
    off64_t from = 0, at = 0;
    long done = 0, n;
    while ((n = copy_file_range(fd, &from, to, &at, 4 * M - done, 0)) > 0) done += n;
    printf("copied %ld\n", done);
    takes(to, 4 * K);
    ct_sum("g");
    T(ftruncate(fd, 0));
    OK(close(to));
}

static void times(int fd, const char *what, int mode, long from, long len)
{
    struct timespec old[2] = {{1000, 0}, {1000, 0}};
    struct stat before, after;
    OK(futimens(fd, old));
    OK(fstat(fd, &before));
    usleep(12000);
    T(fallocate(fd, mode, from, len));
    OK(fstat(fd, &after));
    printf("%s: mtime %s, ctime %s\n", what, after.st_mtim.tv_sec == 1000 ? "stays" : "moves",
           after.st_ctim.tv_sec == before.st_ctim.tv_sec && after.st_ctim.tv_nsec == before.st_ctim.tv_nsec ? "stays" : "moves");
}

static void test(void)
{
    int fd = OK(open("f", O_CREAT | O_RDWR, 0644));
    T(fallocate(fd, 0, 0, 3000));
    takes(fd, 4);
    T(fallocate(fd, 0, 100, 10));
    takes(fd, 4);
    T(fallocate(fd, 0, 0, 4097));
    takes(fd, 8);
    T(ftruncate(fd, 3000));
    modes(fd);
    past_the_end(fd);
    inside(fd);
    sparse(fd);
    times(fd, "default", 0, 0, 5000);
    times(fd, "again", 0, 0, 5000);
    times(fd, "keep", FALLOC_FL_KEEP_SIZE, 0, 50000);
    times(fd, "keep again", FALLOC_FL_KEEP_SIZE, 0, 50000);
    times(fd, "punch", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096);
    times(fd, "punch past", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, M, 4096);
    times(fd, "zero", FALLOC_FL_ZERO_RANGE, 0, 4096);
    OK(unlink("f"));
    takes(fd, 52);
}
