/* mmap, shared: writes reach the file, the file's writes reach the mapping, fork shares it, msync and munmap. */
#include "ct.h"

static void test(void)
{
    long page = sysconf(_SC_PAGESIZE);
    char text[16];
    int fd = OK(open("f", O_CREAT | O_RDWR, 0644));
    OK(ftruncate(fd, 3 * page));
    char *m = P(mmap(NULL, 3 * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    memcpy(m + 10, "mapped", 6);
    ct_bytes("pread", text, pread(fd, text, 6, 10));
    T(pwrite(fd, "written", 7, page + 5));
    ct_bytes("mapping", m + page + 5, 7);
    T(msync(m, 3 * page, MS_SYNC));
    T(msync(m, page, MS_ASYNC));
    T(msync(m + 1, page, MS_SYNC));
    CHILD("child") {
        memcpy(m + 2 * page, "child", 5);
        ct_bytes("child sees", m + 10, 6);
    }
    ct_bytes("parent sees", m + 2 * page, 5);
    ct_bytes("pread", text, pread(fd, text, 5, 2 * page));
    char *second = P(mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, page));
    memcpy(second, "two", 3);
    ct_bytes("first mapping", m + page, 3);
    T(munmap(second, page));
    T(close(fd));
    memcpy(m + 100, "closed", 6);
    T(munmap(m, 3 * page));
    fd = OK(open("f", O_RDWR));
    ct_bytes("after munmap", text, pread(fd, text, 6, 100));
    ct_sum("f");
    m = OK(mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    memcpy(m, "partial", 7);
    CHILD("another process reads what is mapped here") { ct_bytes("read", text, pread(open("f", O_RDONLY), text, 7, 0)); }
    int ro = OK(open("f", O_RDONLY));
    P(mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, ro, 0));
    P(mmap(NULL, page, PROT_READ, MAP_SHARED, ro, 0));
    CHILD("exit writes back") {
        char *own = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, page);
        memcpy(own + 50, "at exit", 7);
    }
    ct_bytes("pread", text, pread(fd, text, 7, page + 50));
}
