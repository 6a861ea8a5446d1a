/* Mapping files that are mostly holes, far larger than memory: only what is there has to be had. */
#include "ct.h"

enum { PAGE = 4096, WINDOW = 1 << 20 };

static const off_t SIZE = 1ll << 40, MIDDLE = (1ll << 33) + 5 * PAGE;

static void test(void)
{
    char text[16];
    int fd = OK(open("f", O_CREAT | O_RDWR, 0644));
    OK(ftruncate(fd, SIZE));
    OK(pwrite(fd, "first", 5, 0));
    OK(pwrite(fd, "middle", 6, MIDDLE));
    OK(pwrite(fd, "last", 4, SIZE - 4));
    printf("data %lld\n", (long long)lseek(fd, 2 * WINDOW, SEEK_DATA));
    printf("hole %lld\n", (long long)lseek(fd, MIDDLE, SEEK_HOLE));
    printf("data %lld\n", (long long)lseek(fd, MIDDLE + 2 * WINDOW, SEEK_DATA));
    printf("hole %lld\n", (long long)lseek(fd, SIZE - 1, SEEK_HOLE));
    char *m = mmap(NULL, WINDOW, PROT_READ | PROT_WRITE, MAP_SHARED, fd, MIDDLE);
    if (m == MAP_FAILED) { printf("mmap: %s\n", ct_errname(errno)); return; }
    ct_bytes("mapped", m, 6);
    ct_bytes("a hole", m + 2 * PAGE, 4);
    memcpy(m + 3 * PAGE, "through the mapping", 19);
    ct_bytes("read", text, pread(fd, text, 11, MIDDLE + 3 * PAGE));
    OK(pwrite(fd, "written", 7, MIDDLE + 4 * PAGE));
    ct_bytes("mapped", m + 4 * PAGE, 7);
    T(msync(m, WINDOW, MS_SYNC));
    T(munmap(m, WINDOW));
    /* A private one over all of it, of which three pages are looked at. */
    m = mmap(NULL, SIZE, PROT_READ, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
    if (m == MAP_FAILED) { printf("mmap: %s\n", ct_errname(errno)); return; }
    ct_bytes("first", m, 5);
    ct_bytes("middle", m + MIDDLE + 3 * PAGE, 11);
    ct_bytes("last", m + SIZE - 4, 4);
    T(munmap(m, SIZE));
    T(ftruncate(fd, MIDDLE + 1));
    ct_bytes("cut", text, pread(fd, text, 8, MIDDLE));
    printf("data %lld\n", (long long)lseek(fd, 2 * WINDOW, SEEK_DATA));
}
