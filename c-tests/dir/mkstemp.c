/* mkstemp, mkostemp, mkstemps, mkdtemp, tempnam's open: private names, private modes. */
#include "ct.h"

static void test(void)
{
    struct stat st;
    char a[] = "fileXXXXXX", b[] = "fileXXXXXX.txt", c[] = "dirXXXXXX", e[] = "oXXXXXX", bad[] = "noX", in[] = "none/XXXXXX";
    int fd = F(mkstemp(a));
    OK(fstat(fd, &st));
    printf("%04o, named %d\n", st.st_mode & 07777, strncmp(a, "file", 4) == 0 && strcmp(a, "fileXXXXXX") != 0);
    T(write(fd, "temp", 4));
    T(lseek(fd, 0, SEEK_CUR));
    T(unlink(a));
    fd = F(mkstemps(b, 4));
    YES(!strcmp(b + 10, ".txt") && access(b, F_OK) == 0);
    fd = F(mkostemp(e, O_APPEND | O_CLOEXEC));
    printf("%d %d\n", fcntl(fd, F_GETFD), (fcntl(fd, F_GETFL) & O_APPEND) != 0);
    P(mkdtemp(c));
    OK(stat(c, &st));
    printf("%c %04o\n", ct_type(st.st_mode), st.st_mode & 07777);
    T(rmdir(c));
    F(mkstemp(bad));
    F(mkstemp(in));
    char d[] = "none/XXXXXX";
    P(mkdtemp(d));
}
