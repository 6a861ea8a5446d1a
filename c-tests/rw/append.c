/* O_APPEND: every write goes to the end; pwrite appends too (the Linux quirk); F_SETFL switches it. */
#include "ct.h"

static void test(void)
{
    char text[8];
    ct_put("f", "start|");
    int fd = F(open("f", O_RDWR | O_APPEND));
    T(lseek(fd, 0, SEEK_CUR));
    T(write(fd, "one|", 4));
    T(lseek(fd, 0, SEEK_CUR));
    T(lseek(fd, 0, SEEK_SET));
    T(read(fd, text, 3));
    T(write(fd, "two|", 4));
    T(lseek(fd, 0, SEEK_CUR));
    T(pwrite(fd, "quirk|", 6, 0));
    ct_cat("f");
    T(lseek(fd, 0, SEEK_CUR));
    int other = F(open("f", O_WRONLY | O_APPEND));
    T(write(other, "A|", 2));
    T(write(fd, "B|", 2));
    T(write(other, "C|", 2));
    ct_cat("f");
    T(fcntl(fd, F_SETFL, 0));
    T(lseek(fd, 0, SEEK_SET));
    T(write(fd, "OVER", 4));
    T(fcntl(fd, F_SETFL, O_APPEND));
    T(write(fd, "D|", 2));
    ct_cat("f");
    printf("F_GETFL has O_APPEND: %d\n", (fcntl(fd, F_GETFL) & O_APPEND) != 0);
    T(ftruncate(fd, 2));
    T(write(fd, "E", 1));
    ct_cat("f");
    close(fd);
    close(other);
}
