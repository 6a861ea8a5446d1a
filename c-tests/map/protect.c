/* mprotect, mremap, madvise and partial munmap of a mapped file. */
#include "ct.h"

static void test(void)
{
    long page = sysconf(_SC_PAGESIZE);
    static char data[5 * 4096];
    char text[8];
    ct_fill(data, sizeof data, 5);
    int fd = OK(open("f", O_CREAT | O_RDWR, 0644));
    OK(write(fd, data, sizeof data));
    char *m = P(mmap(NULL, 5 * page, PROT_READ, MAP_SHARED, fd, 0));
    CHILD("write to a read-only mapping") { *(volatile char *)m = 1; }
    T(mprotect(m, page, PROT_READ | PROT_WRITE));
    memcpy(m, "now", 3);
    ct_bytes("file", text, pread(fd, text, 3, 0));
    T(munmap(m + 2 * page, page));
    CHILD("hole") { _exit(m[2 * page]); }
    printf("rest: %d\n", !memcmp(m + 3 * page, data + 3 * page, 2 * page));
    T(madvise(m, page, MADV_WILLNEED));
    T(madvise(m, page, MADV_SEQUENTIAL));
    char *n = P(mremap(m + 3 * page, 2 * page, 2 * page, MREMAP_MAYMOVE));
    printf("moved: %d\n", !memcmp(n, data + 3 * page, 2 * page));
    n = P(mremap(n, 2 * page, page, 0));
    printf("shrunk: %d\n", !memcmp(n, data + 3 * page, page));
    int ro = OK(open("f", O_RDONLY));
    char *r = P(mmap(NULL, page, PROT_READ, MAP_SHARED, ro, 0));
    T(mprotect(r, page, PROT_READ | PROT_WRITE));
    char *p = P(mmap(NULL, page, PROT_READ, MAP_PRIVATE, ro, 0));
    T(mprotect(p, page, PROT_READ | PROT_WRITE));
    p[0] = 'p';
    T(mprotect(p, page, PROT_NONE));
    T(munmap(m, 2 * page));
    T(munmap(m + 1, page));
    int wo = OK(open("f", O_WRONLY));
    P(mmap(NULL, page, PROT_READ, 0, wo, 0));
    P(mmap(NULL, page, PROT_READ, MAP_SHARED, wo, 0));
    P(mmap(NULL, 0, PROT_READ, MAP_SHARED, wo, 0));
    P(mmap(NULL, page, PROT_READ, MAP_PRIVATE, wo, 1));
    ct_sum("f");
}
