/* open: O_SYNC, O_DSYNC, O_NOATIME, O_NONBLOCK, O_NOCTTY, O_DIRECT with aligned buffers, and what F_GETFL shows. */
#include "ct.h"

static void one(const char *label, int flags, int shown)
{
    int fd = open("f", O_RDWR | flags);
    printf("%s: %s", label, fd >= 0 ? "fd" : ct_errname(errno));
    if (fd < 0) { puts(""); return; }
    int got = fcntl(fd, F_GETFL);
    printf(", access mode %d, shown %d, write %zd, read %zd\n", got & O_ACCMODE, (got & shown) == shown,
           pwrite(fd, "abc", 3, 0), pread(fd, (char[4]){0}, 4, 0));
    close(fd);
}

static void test(void)
{
    ct_put("f", "0123456789");
    one("none", 0, 0);
    one("O_SYNC", O_SYNC, O_SYNC);
    one("O_DSYNC", O_DSYNC, O_DSYNC);
    one("O_NONBLOCK", O_NONBLOCK, O_NONBLOCK);
    one("O_NOATIME", O_NOATIME, O_NOATIME);
    one("O_NOCTTY", O_NOCTTY, 0);
    one("O_LARGEFILE", O_LARGEFILE, 0);
    one("O_CLOEXEC", O_CLOEXEC, 0);
    one("O_APPEND", O_APPEND, O_APPEND);
    void *block = NULL;
    TE(posix_memalign(&block, 4096, 8192));
    ct_fill(block, 8192, 3);
    int fd = F(open("direct", O_CREAT | O_RDWR | O_DIRECT, 0644));
    T(pwrite(fd, block, 8192, 0));
    memset(block, 0, 8192);
    T(pread(fd, block, 4096, 4096));
    printf("%016llx\n", (unsigned long long)ct_hash(block, 4096));
    T(pread(fd, block, 8192, 4096));
    T(close(fd));
    ct_sum("direct");
}
