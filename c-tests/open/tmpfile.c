/* open: O_TMPFILE makes a file without a name; linkat gives it one unless O_EXCL was asked. */
#include "ct.h"

static void test(void)
{
    struct stat st;
    char path[64];
    int fd = F(open(".", O_TMPFILE | O_RDWR, 0640));
    OK(fstat(fd, &st));
    printf("%c %04o links %lu\n", ct_type(st.st_mode), st.st_mode & 07777, (unsigned long)st.st_nlink);
    T(write(fd, "no name yet", 11));
    ct_ls(".");
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    T(linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
    ct_ls(".");
    ct_cat("named");
    ct_stat("named");
    T(write(fd, "!", 1));
    close(fd);
    ct_cat("named");
    fd = F(open(".", O_TMPFILE | O_RDWR | O_EXCL, 0600));
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    T(linkat(AT_FDCWD, path, AT_FDCWD, "never", AT_SYMLINK_FOLLOW));
    close(fd);
    F(open(".", O_TMPFILE | O_RDONLY, 0600));
    F(open("named", O_TMPFILE | O_RDWR, 0600));
    F(open("none", O_TMPFILE | O_RDWR, 0600));
    fd = F(open(ct_dir, O_TMPFILE | O_WRONLY, 0600));
    T(pwrite(fd, "abc", 3, 100));
    OK(fstat(fd, &st));
    printf("size %lld\n", (long long)st.st_size);
    close(fd);
    ct_ls(".");
}
