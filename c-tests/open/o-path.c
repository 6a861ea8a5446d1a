/* open: an O_PATH descriptor names a file and gives no access to it. */
#include "ct.h"

static void test(void)
{
    struct stat st;
    char text[8];
    mkdir("d", 0755);
    ct_put("d/f", "inside");
    symlink("f", "d/l");
    int fd = F(open("d/f", O_PATH));
    T(read(fd, text, 1));
    T(write(fd, "x", 1));
    T(fchmod(fd, 0600));
    T(ftruncate(fd, 0));
    T(lseek(fd, 0, SEEK_SET));
    T(fsync(fd));
    T(fstat(fd, &st));
    printf("size %lld\n", (long long)st.st_size);
    printf("F_GETFL is O_PATH: %d\n", (fcntl(fd, F_GETFL) & O_PATH) != 0);
    int other = F(fcntl(fd, F_DUPFD_CLOEXEC, 0));
    T(fstat(other, &st));
    close(other);
    snprintf(text, sizeof text, "x");
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int again = F(open(path, O_RDONLY));
    ct_bytes("through /proc/self/fd", text, ct_read_all(again, text, 6));
    close(again);
    T(fstatat(fd, "", &st, AT_EMPTY_PATH));
    close(fd);
    fd = F(open("d/l", O_PATH | O_NOFOLLOW));
    T(fstat(fd, &st));
    printf("%c\n", ct_type(st.st_mode));
    T(readlinkat(fd, "", text, sizeof text));
    close(fd);
    fd = F(open("d", O_PATH | O_DIRECTORY));
    int in = F(openat(fd, "f", O_RDONLY));
    close(in);
    T(fchdir(fd));
    ct_ls(".");
    ct_stat("f");
    T(close(fd));
}
