/* exec: descriptors, their offsets, locks and the working directory go on; close-on-exec ones do not. */
#define CT_HELPER
#include "ct.h"

static int helper(int argc, char **argv)
{
    char text[32];
    int fd = atoi(argv[0]), closed = atoi(argv[1]);
    struct flock l = {.l_type = F_WRLCK, .l_len = 5};
    setvbuf(stdout, NULL, _IOLBF, 0);
    ct_bytes("after exec", text, read(fd, text, 4));
    T(fcntl(closed, F_GETFD));
    CHILD("the posix lock is kept by exec") { T(fcntl(OK(open("f", O_RDWR)), F_SETLK, &l)); }
    int other = OK(open("f", O_RDWR));
    T(fcntl(fd, F_GETFD));
    printf("access mode and append: %o\n", fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND));
    T(flock(other, LOCK_EX | LOCK_NB));
    T(write(fd, "EXEC", 4));
    ct_cat("below");
    return argc;
}

static void test(void)
{
    char number[16], closed[16], text[8];
    mkdir("d", 0755);
    ct_put("d/below", "in the new cwd");
    int fd = OK(open("f", O_CREAT | O_RDWR, 0644));
    OK(write(fd, "0123456789", 10));
    OK(symlink("../f", "d/f"));
    OK(lseek(fd, 2, SEEK_SET));
    ct_put("g", "other file");
    int cloexec = OK(open("g", O_RDONLY | O_CLOEXEC));
    snprintf(number, sizeof number, "%d", fd);
    snprintf(closed, sizeof closed, "%d", cloexec);
    CHILD("executed") {
        struct flock l = {.l_type = F_WRLCK, .l_len = 5};
        OK(flock(fd, LOCK_EX));
        OK(fcntl(fd, F_SETLK, &l));
        OK(chdir("d"));
        execl("/proc/self/exe", "self", "-", number, closed, NULL);
        _exit(100);
    }
    T(lseek(fd, 0, SEEK_CUR));
    ct_cat("f");
    ct_bytes("close-on-exec one is still ours", text, read(cloexec, text, 3));
    OK(unlink("f"));
    CHILD("an unlinked file through exec") {
        OK(lseek(fd, 0, SEEK_SET));
        OK(dup2(fd, 0));
        fflush(stdout);
        execlp("tr", "tr", "0-9", "a-j", NULL);
        _exit(100);
    }
    ct_put("done", "");
}
