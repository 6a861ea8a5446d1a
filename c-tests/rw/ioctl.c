/* ioctl on a file and a directory: FIONREAD, FIOCLEX, FIONBIO; terminals' requests give ENOTTY. */
#include "ct.h"
#include <termios.h>

static void test(void)
{
    struct termios term;
    int n = -1, on = 1;
    ct_put("f", "0123456789");
    int fd = OK(open("f", O_RDWR));
    T(ioctl(fd, FIONREAD, &n));
    printf("%d to read\n", n);
    OK(lseek(fd, 4, SEEK_SET));
    T(ioctl(fd, FIONREAD, &n));
    printf("%d to read\n", n);
    T(ioctl(fd, FIOCLEX));
    printf("FD_CLOEXEC %d\n", fcntl(fd, F_GETFD));
    T(ioctl(fd, FIONCLEX));
    printf("FD_CLOEXEC %d\n", fcntl(fd, F_GETFD));
    T(ioctl(fd, FIONBIO, &on));
    printf("O_NONBLOCK %d\n", (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
    T(ioctl(fd, TCGETS, &term));
    T(ioctl(fd, TIOCGWINSZ, &term));
    T(isatty(fd));
    T(tcgetattr(fd, &term));
    T(ioctl(fd, 0x12345678, &n));
    T(ioctl(-1, FIONREAD, &n));
    int dir = OK(open(".", O_RDONLY));
    T(ioctl(dir, TCGETS, &term));
    T(isatty(dir));
    T(ioctl(fd, FIONREAD, BAD));
}
