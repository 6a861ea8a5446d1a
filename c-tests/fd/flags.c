/* fcntl: F_GETFD/F_SETFD, F_GETFL/F_SETFL, what cannot be changed, commands for other kinds of files. */
#include "ct.h"

static int shown(int fd)
{
    return fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK | O_SYNC | O_DIRECTORY | O_NOATIME);
}

static void test(void)
{
    ct_put("f", "x");
    int ro = OK(open("f", O_RDONLY)), wo = OK(open("f", O_WRONLY)), rw = OK(open("f", O_RDWR | O_APPEND));
    int dir = OK(open(".", O_RDONLY | O_DIRECTORY));
    printf("%o %o %o %o\n", shown(ro), shown(wo), shown(rw), shown(dir));
    T(fcntl(ro, F_GETFD));
    T(fcntl(ro, F_SETFD, FD_CLOEXEC));
    T(fcntl(ro, F_GETFD));
    T(fcntl(ro, F_SETFD, 0));
    T(fcntl(ro, F_GETFD));
    int ce = OK(open("f", O_RDONLY | O_CLOEXEC));
    T(fcntl(ce, F_GETFD));
    T(fcntl(rw, F_SETFL, O_NONBLOCK));
    printf("%o\n", shown(rw));
    T(fcntl(rw, F_SETFL, O_RDONLY | O_SYNC | O_CREAT | O_TRUNC));
    printf("%o\n", shown(rw));
    T(fcntl(rw, F_SETFL, O_NOATIME));
    printf("%o\n", shown(rw));
    T(fcntl(rw, 12345));
    T(fcntl(-1, F_GETFD));
    T(fcntl(999, F_GETFL));
    T(fcntl(ro, F_GETOWN));
    T(fcntl(ro, F_GETPIPE_SZ));
    T(fcntl(ro, F_GET_SEALS));
    T(fcntl(dir, F_NOTIFY, DN_MULTISHOT));
    T(fcntl(ro, F_NOTIFY, DN_MULTISHOT));
    T(fcntl(ro, F_NOTIFY, DN_MODIFY));
    ct_cat("f");
}
