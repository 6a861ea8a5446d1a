/* mmap, private: contents, copy on write, offsets, zeros behind the end, errnos. */
#include "ct.h"

static void test(void)
{
    long page = sysconf(_SC_PAGESIZE);
    static char data[10000];
    ct_fill(data, sizeof data, 21);
    int fd = OK(open("f", O_CREAT | O_RDWR, 0644));
    OK(write(fd, data, sizeof data));
    char *m = P(mmap(NULL, sizeof data, PROT_READ, MAP_PRIVATE, fd, 0));
    printf("same: %d\n", !memcmp(m, data, sizeof data));
    int zero = 1;
    for (long i = sizeof data; i < 3 * page; i++) zero &= m[i] == 0;
    printf("zeros behind the end: %d\n", zero);
    T(munmap(m, sizeof data));
    m = P(mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, page));
    printf("same: %d\n", !memcmp(m, data + page, page));
    memcpy(m, "PRIVATE", 7);
    T(pread(fd, data, 7, page));
    printf("file untouched: %d\n", memcmp(data, "PRIVATE", 7) != 0);
    CHILD("child has its own") {
        memcpy(m, "CHILD", 5);
    }
    ct_bytes("parent", m, 7);
    T(munmap(m, page));
    int ro = OK(open("f", O_RDONLY)), wo = OK(open("f", O_WRONLY)), dir = OK(open(".", O_RDONLY));
    m = P(mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE, ro, 0));
    close(ro);
    m[0] = 'x';
    P(mmap(NULL, page, PROT_READ, MAP_PRIVATE, wo, 0));
    P(mmap(NULL, page, PROT_READ, MAP_PRIVATE, dir, 0));
    P(mmap(NULL, page, PROT_READ, MAP_PRIVATE, -1, 0));
    P(mmap(NULL, page, PROT_READ, MAP_PRIVATE, fd, 1));
    P(mmap(NULL, 0, PROT_READ, MAP_PRIVATE, fd, 0));
    P(mmap(NULL, page, PROT_READ, 0, fd, 0));
    char *at = P(mmap(NULL, 4 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    YES(mmap(at + page, page, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0) == at + page);
    T(unlink("f"));
    T(close(fd));
    ct_bytes("after unlink and close", at + page + 100, 4);
}
