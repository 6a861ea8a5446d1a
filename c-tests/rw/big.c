/* Data across many chunks: 5 MiB in odd pieces, overwritten across borders, read back in other pieces. */
#include "ct.h"

enum { TOTAL = 5 * 1024 * 1024 + 77 };
static char data[TOTAL], back[TOTAL];

static void test(void)
{
    ct_fill(data, TOTAL, 7);
    int fd = F(open("f", O_CREAT | O_RDWR, 0644));
    size_t at = 0;
    for (size_t piece = 1; at < TOTAL; piece = piece * 3 + 1) {
        size_t n = piece < TOTAL - at ? piece : TOTAL - at;
        if (n > 700001) n = 700001;
        ssize_t r = write(fd, data + at, n);
        if (r != (ssize_t)n) printf("write %zd of %zu\n", r, n);
        at += n;
    }
    ct_stat("f");
    ct_sum("f");
    for (int i = 0; i < 40; i++) {
        size_t offset = (size_t)i * 131071 % TOTAL, n = 1 + i * 997 % 9000;
        if (offset + n > TOTAL) n = TOTAL - offset;
        ct_fill(data + offset, n, i);
        if (pwrite(fd, data + offset, n, offset) != (ssize_t)n) puts("short pwrite");
    }
    T(pwrite(fd, data, 2 * 1024 * 1024, 0));
    T(pread(fd, back, TOTAL + 1 > sizeof back ? sizeof back : TOTAL, 0));
    printf("same: %d\n", !memcmp(data, back, TOTAL));
    lseek(fd, 0, SEEK_SET);
    memset(back, 0, TOTAL);
    for (at = 0; at < TOTAL;) {
        ssize_t r = read(fd, back + at, 33333);
        if (r <= 0) break;
        at += r;
    }
    printf("same: %d\n", at == TOTAL && !memcmp(data, back, TOTAL));
    T(pread(fd, back, 4096, 1024 * 1024 - 2048));
    printf("same: %d\n", !memcmp(back, data + 1024 * 1024 - 2048, 4096));
    ct_sum("f");
    close(fd);
}
