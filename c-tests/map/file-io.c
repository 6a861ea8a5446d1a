/* A mapped buffer as source and target of read and write, also of the file that it maps. */
#include "ct.h"

static void test(void)
{
    long page = sysconf(_SC_PAGESIZE);
    static char data[8192];
    ct_fill(data, sizeof data, 31);
    int a = OK(open("a", O_CREAT | O_RDWR, 0644)), b = OK(open("b", O_CREAT | O_RDWR, 0644));
    OK(write(a, data, sizeof data));
    OK(ftruncate(b, sizeof data));
    char *from = OK(mmap(NULL, 2 * page, PROT_READ, MAP_SHARED, a, 0));
    char *to = OK(mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED, b, 0));
    T(write(b, from, 2 * page));
    ct_sum("b");
    T(pread(a, to, page, page));
    printf("first page of b is the second of a: %d\n", !memcmp(to, data + page, page));
    memcpy(to + page, from, page);
    OK(munmap(to, 2 * page));
    ct_sum("b");
    T(pwrite(a, from, 100, page));
    ct_sum("a");
    T(ftruncate(a, page));
    T(pwrite(a, "grown", 5, page));
    ct_bytes("grown", from + page, 5);
    T(rename("a", "c"));
    T(unlink("c"));
    ct_bytes("unlinked", from + page, 5);
}
