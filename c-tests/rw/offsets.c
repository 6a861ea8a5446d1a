/* Offsets up to the largest and beyond: which are refused, and with what. Nothing is written that ext4 could not hold. */
#include "ct.h"

static void test(void)
{
    char text[10];
    const off_t MOST = INT64_MAX;
    int fd = OK(open("f", O_CREAT | O_RDWR, 0644));
    OK(write(fd, "0123456789", 10));
    T(pread(fd, text, 1, MOST));
    T(pread(fd, text, 10, MOST - 9));
    T(pread(fd, text, 10, MOST - 10));
    T(pread(fd, text, 1, -1));
    T(pwrite(fd, "x", 1, -1));
    T(pwrite(fd, "x", 1, MOST));
    T(pwrite(fd, "xy", 2, MOST - 1));
    T(pwrite(fd, "", 0, MOST));
    T(ftruncate(fd, -1));
    T(truncate("f", -1));
    T(lseek(fd, -1, SEEK_SET));
    T(lseek(fd, -11, SEEK_END));
    T(lseek(fd, -10, SEEK_END));
    T(lseek(fd, MOST, SEEK_END));
    T(lseek(fd, 5, SEEK_SET));
    T(lseek(fd, 0, 77));
    T(lseek(fd, -1, SEEK_DATA));
    T(lseek(fd, MOST, SEEK_HOLE));
    T(fallocate(fd, 0, MOST, 1));
    T(fallocate(fd, 0, MOST - 5, 10));
    T(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, MOST - 5, 10));
    T(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 1ll << 40, 4096));
    T(fallocate(fd, FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_KEEP_SIZE, 0, 4096));
    T(fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
    T(pwrite(fd, "far", 3, 1ll << 41));
    ct_stat("f");
    T(pread(fd, text, 3, 1ll << 41));
    T(lseek(fd, 4096, SEEK_DATA));
    T(ftruncate(fd, 1ll << 42));
    T(ftruncate(fd, 4));
    ct_stat("f");
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = MOST, .l_len = 1};
    T(fcntl(fd, F_SETLK, &lock));
    lock.l_len = 2;
    T(fcntl(fd, F_SETLK, &lock));
    lock.l_start = -1, lock.l_len = 1;
    T(fcntl(fd, F_SETLK, &lock));
    T(posix_fadvise(fd, MOST, 0, POSIX_FADV_NORMAL));
}
