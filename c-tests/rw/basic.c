/* read, write, pread, pwrite: positions, short reads at the end, holes, zero lengths, bad arguments. */
#include "ct.h"

static void test(void)
{
    char text[64] = "";
    int fd = F(open("f", O_CREAT | O_RDWR, 0644));
    T(read(fd, text, 10));
    T(write(fd, "0123456789", 10));
    T(lseek(fd, 0, SEEK_CUR));
    T(read(fd, text, 10));
    T(lseek(fd, 3, SEEK_SET));
    T(read(fd, text, 4));
    ct_bytes("read at 3", text, 4);
    T(lseek(fd, 0, SEEK_CUR));
    T(read(fd, text, sizeof text));
    T(read(fd, text, sizeof text));
    T(pread(fd, text, 5, 8));
    ct_bytes("pread at 8", text, 2);
    T(pread(fd, text, 5, 10));
    T(pread(fd, text, 5, 1000));
    T(lseek(fd, 0, SEEK_CUR));
    T(pwrite(fd, "XY", 2, 4));
    T(pwrite(fd, "end", 3, 20));
    T(lseek(fd, 0, SEEK_CUR));
    ct_cat("f");
    T(write(fd, "", 0));
    T(read(fd, text, 0));
    T(pread(fd, text, 1, -1));
    T(pwrite(fd, text, 1, -1));
    T(write(fd, "abc", 3));
    ct_cat("f");
    T(lseek(fd, 100, SEEK_SET));
    T(write(fd, "z", 1));
    ct_stat("f");
    T(read(-1, text, 1));
    T(write(999, text, 1));
    close(fd);
    T(read(fd, text, 1));
    fd = OK(open(".", O_RDONLY));
    T(read(fd, text, 1));
    T(write(fd, text, 1));
    T(pread(fd, text, 1, 0));
    close(fd);
    fd = OK(open("f", O_WRONLY));
    T(read(fd, text, 1));
    T(pread(fd, text, 1, 0));
    T(write(fd, "W", 1));
    close(fd);
    fd = OK(open("f", O_RDONLY));
    T(write(fd, "x", 1));
    T(pwrite(fd, "x", 1, 0));
    T(write(fd, "x", 0));
    close(fd);
}
