/* Sparse files: big offsets, zeros in holes, SEEK_DATA and SEEK_HOLE around 1 MiB islands, blocks much below size. */
#include "ct.h"

enum { MIB = 1 << 20 };

static void test(void)
{
    static char data[MIB], zero[4096], text[4096];
    struct stat st;
    ct_fill(data, sizeof data, 1);
    int fd = F(open("f", O_CREAT | O_RDWR, 0644));
    T(pwrite(fd, data, MIB, 8L * MIB));
    T(pwrite(fd, data, MIB, 64L * MIB));
    T(pwrite(fd, "end", 3, 1L << 36));
    OK(fstat(fd, &st));
    printf("size %lld, charged below 8 MiB: %d\n", (long long)st.st_size, st.st_blocks < 8 * MIB / 512);
    T(pread(fd, text, 4096, 0));
    printf("zeros: %d\n", !memcmp(text, zero, 4096));
    T(pread(fd, text, 4096, 40L * MIB + 77));
    printf("zeros: %d\n", !memcmp(text, zero, 4096));
    T(pread(fd, text, 4096, 8L * MIB - 100));
    printf("edge: %d\n", !memcmp(text, zero, 100) && !memcmp(text + 100, data, 3996));
    T(pread(fd, text, 4096, (1L << 36) - 10));
    T(lseek(fd, 0, SEEK_DATA));
    T(lseek(fd, 8L * MIB, SEEK_HOLE));
    T(lseek(fd, 10L * MIB, SEEK_DATA));
    T(lseek(fd, 64L * MIB, SEEK_DATA));
    T(lseek(fd, 64L * MIB + 5, SEEK_HOLE));
    T(lseek(fd, (1L << 36) + 10, SEEK_DATA));
    T(lseek(fd, (1L << 36) + 10, SEEK_HOLE));
    T(ftruncate(fd, 65L * MIB));
    T(lseek(fd, 65L * MIB - 1, SEEK_HOLE));
    T(ftruncate(fd, 100L * MIB));
    T(lseek(fd, 65L * MIB, SEEK_DATA));
    T(lseek(fd, 65L * MIB, SEEK_HOLE));
    ct_sum("f");
    T(pwrite(fd, "x", 1, INT64_MAX));
    T(ftruncate(fd, -1));
    close(fd);
}
