/* SIGBUS behind the last page of a mapped file; a page that the file grows into becomes readable. */
#include "ct.h"

static void test(void)
{
    long page = sysconf(_SC_PAGESIZE);
    int fd = OK(open("f", O_CREAT | O_RDWR, 0644));
    OK(ftruncate(fd, page + 100));
    volatile char *m = P(mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    CHILD("last page, behind the end") { _exit(m[page + 200]); }
    CHILD("page behind the end") { _exit(m[2 * page]); }
    CHILD("write to a page behind the end") { m[3 * page] = 1; }
    m[page + 300] = 'x';
    struct stat st;
    OK(fstat(fd, &st));
    printf("size unchanged: %d\n", st.st_size == page + 100);
    volatile char *p = P(mmap(NULL, 4 * page, PROT_READ, MAP_PRIVATE, fd, 0));
    CHILD("private, behind the end") { _exit(p[2 * page]); }
    int empty = OK(open("empty", O_CREAT | O_RDWR, 0644));
    volatile char *e = P(mmap(NULL, page, PROT_READ, MAP_SHARED, empty, 0));
    CHILD("an empty file") { _exit(e[0]); }
}
