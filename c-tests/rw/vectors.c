/* readv, writev, preadv, pwritev and the 2-variants: gather, scatter, empty parts, limits, flags. */
#include "ct.h"

static void test(void)
{
    char a[4], b[8], c[16];
    struct iovec out[] = {{"one", 3}, {"", 0}, {"two", 3}, {"three", 5}};
    struct iovec in[] = {{a, 4}, {NULL, 0}, {b, 5}, {c, 16}};
    int fd = F(open("f", O_CREAT | O_RDWR, 0644));
    T(writev(fd, out, 4));
    ct_cat("f");
    T(lseek(fd, 0, SEEK_SET));
    T(readv(fd, in, 4));
    ct_bytes("a", a, 4);
    ct_bytes("b", b, 5);
    ct_bytes("c", c, 2);
    T(readv(fd, in, 4));
    T(pwritev(fd, out, 4, 20));
    T(preadv(fd, in, 4, 18));
    ct_bytes("a", a, 4);
    ct_bytes("b", b, 5);
    T(lseek(fd, 0, SEEK_CUR));
    T(pwritev2(fd, out, 1, -1, 0));
    T(lseek(fd, 0, SEEK_CUR));
    T(pwritev2(fd, out, 4, 0, RWF_APPEND));
    ct_cat("f");
    T(preadv2(fd, in, 4, 0, 0));
    T(lseek(fd, 2, SEEK_SET));
    T(preadv2(fd, in, 1, -1, 0));
    ct_bytes("a", a, 4);
    T(lseek(fd, 0, SEEK_CUR));
    T(preadv2(fd, in, 1, 0, 1 << 30));
    T(pwritev2(fd, out, 1, 0, RWF_DSYNC));
    T(pwritev2(fd, out, 1, 0, RWF_SYNC));
    T(writev(fd, out, 0));
    T(readv(fd, in, 0));
    T(writev(fd, out, -1));
    T(writev(fd, out, IOV_MAX + 1));
    T(preadv(fd, in, 4, -5));
    T(writev(-1, out, 4));
    struct iovec wrong[] = {{a, 2}, {b, (size_t)-1}};
    T(readv(fd, wrong, 2));
    static struct iovec many[IOV_MAX];
    for (int i = 0; i < IOV_MAX; i++) many[i] = (struct iovec){"q", 1};
    T(pwritev(fd, many, IOV_MAX, 100));
    ct_sum("f");
    close(fd);
}
