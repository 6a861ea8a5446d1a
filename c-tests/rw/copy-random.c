/* copy_file_range and sendfile over random ranges of files with holes, against byte arrays: within a file, between files, over sizes. */
#include "ct.h"

enum { MAX = 5 << 20, FILES = 3 };

static unsigned char model[FILES][MAX], seen[MAX];
static long size[FILES];
static int fd[FILES];
static uint64_t state = 88172645463325252u;

static long below(long n)
{
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (long)(state % (uint64_t)n);
}

/* What the kernel would have written is what the model gets; the count is told by the model. */
static void copy(int from, int to, int by_sendfile)
{
    long at = below(MAX), target = below(MAX), len = below(below(4) ? 100000 : 3 << 20);
    long left = at >= size[from] ? 0 : size[from] - at;
    if (left > len) left = len;
    if (target + left > MAX) return;
    if (from == to && target + left > at && target < at + left) {
        off64_t a = at, b = target;
        errno = 0;
        if (copy_file_range(fd[from], &a, fd[to], &b, len, 0) != -1 || errno != EINVAL) printf("overlap was not refused\n");
        return;
    }
    long moved = 0;
    while (moved < left) {
        off64_t a = at + moved, b = target + moved;
        ssize_t n;
        if (by_sendfile) {
            OK(lseek(fd[to], b, SEEK_SET));
            n = sendfile(fd[to], fd[from], &a, len - moved);
        } else {
            n = copy_file_range(fd[from], &a, fd[to], &b, len - moved, 0);
        }
        if (n <= 0) { printf("stopped at %ld of %ld: %s\n", moved, left, n ? ct_errname(errno) : "end"); exit(1); }
        if (a != at + moved + n || (by_sendfile ? lseek(fd[to], 0, SEEK_CUR) : b) != target + moved + n) printf("offsets moved otherwise\n");
        moved += n;
    }
    if (left == 0) return;
    memmove(model[to] + target, model[from] + at, left);
    if (target + left > size[to]) size[to] = target + left;
}

static void check(int step)
{
    for (int i = 0; i < FILES; i++) {
        struct stat st;
        OK(fstat(fd[i], &st));
        ssize_t n = OK(pread(fd[i], seen, MAX, 0));
        if (st.st_size != size[i] || n != size[i]) { printf("step %d: file %d has size %ld, not %ld\n", step, i, (long)st.st_size, size[i]); exit(1); }
        for (long k = 0; k < n; k++)
            if (seen[k] != model[i][k]) { printf("step %d: file %d differs at byte %ld\n", step, i, k); exit(1); }
    }
}

static void test(void)
{
    static const char *const NAMES[FILES] = {"a", "b", "c"};
    for (int i = 0; i < FILES; i++) fd[i] = OK(open(NAMES[i], O_CREAT | O_RDWR, 0644));
    for (int step = 0; step < 150; step++) {
        int i = below(FILES);
        long at = below(MAX), len = below(below(3) ? 5000 : 300000);
        if (at + len > MAX) len = MAX - at;
        switch (below(8)) {
        case 0:
            memset(model[i] + at, step + 1, len);
            if (len > 0 && at + len > size[i]) size[i] = at + len;
            if (pwrite(fd[i], model[i] + at, len, at) != len) printf("short write\n");
            break;
        case 1:
            OK(fallocate(fd[i], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, len + 1));
            if (at + len < MAX) len++;
            memset(model[i] + at, 0, len);
            break;
        case 2:
            if (below(4)) break;
            if (at < size[i]) memset(model[i] + at, 0, size[i] - at);
            size[i] = at;
            OK(ftruncate(fd[i], at));
            break;
        default: {
            int from = below(FILES), by_sendfile = !below(4) && from != i;
            copy(from, i, by_sendfile);
        }
        }
        if (step % 20 == 19) check(step);
    }
    check(150);
    printf("copied\n");
}
