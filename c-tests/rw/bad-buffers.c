/* read and write with bad buffers: EFAULT without effect, partial progress where the first bytes are good. */
#include "ct.h"

static void test(void)
{
    long page = sysconf(_SC_PAGESIZE);
    char *two = OK(mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    OK(mprotect(two + page, page, PROT_NONE));
    char *edge = two + page - 4;
    memcpy(edge, "good", 4);
    const char *constant = "read-only memory";
    int fd = OK(open("f", O_CREAT | O_RDWR, 0644));
    T(write(fd, "0123456789", 10));
    T(lseek(fd, 0, SEEK_SET));
    T(read(fd, BAD, 4));
    T(lseek(fd, 0, SEEK_CUR));
    T(read(fd, (void *)constant, 4));
    T(read(fd, NULL, 4));
    T(read(fd, BAD, 0));
    T(write(fd, BAD, 4));
    T(write(fd, NULL, 1));
    T(write(fd, BAD, 0));
    T(pread(fd, BAD, 4, 0));
    T(pwrite(fd, BAD, 4, 0));
    T(lseek(fd, 0, SEEK_CUR));
    ct_cat("f");
    struct iovec bad_list[] = {{"ab", 2}, {BAD, 2}};
    struct iovec bad_read[] = {{BAD, 2}, {edge, 2}};
    T(pwritev(fd, bad_list + 1, 1, 0));
    T(preadv(fd, bad_read, 2, 0));
    T(readv(fd, BAD, 1));
    T(writev(fd, BAD, 1));
    T(read(fd, two + page, 4));
    T(pread(fd, two + page, 4, 100));
    T(read(fd, edge, 4));
    ct_bytes("edge", edge, 4);
    T(lseek(fd, 0, SEEK_END));
    T(write(fd, edge, 4));
    ct_stat("f");
    CHILD("a program's own handler sees its own fault") {
        signal(SIGSEGV, SIG_DFL);
        *(volatile char *)BAD = 1;
    }
}
