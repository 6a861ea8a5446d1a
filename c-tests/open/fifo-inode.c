/* An open FIFO is the inode that its name is: fstat, fchmod, fchown, futimens, after a rename too; who may open it. */
#include "ct.h"

static void same(const char *what, int fd, const char *path)
{
    struct stat a, b;
    OK(fstat(fd, &a));
    OK(stat(path, &b));
    printf("%s: %s, %c %04o %d %d links %lu\n", what, a.st_ino == b.st_ino && a.st_dev == b.st_dev ? "same" : "ANOTHER",
           ct_type(a.st_mode), a.st_mode & 07777, (int)a.st_uid, (int)a.st_gid, (unsigned long)a.st_nlink);
}

static void test(void)
{
    struct statx sx, sy;
    char text[10];
    T(mkfifo("p", 0640));
    int fd = F(open("p", O_RDWR));
    same("open", fd, "p");
    T(fchmod(fd, 0600));
    same("fchmod", fd, "p");
    T(link("p", "q"));
    T(rename("p", "r"));
    same("link and rename", fd, "r");
    const struct timespec times[2] = {{5, 6}, {7, 8}};
    T(futimens(fd, times));
    struct stat st;
    OK(stat("r", &st));
    printf("mtime %lld.%ld\n", (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    OK(statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &sx));
    OK(statx(AT_FDCWD, "r", 0, STATX_BASIC_STATS, &sy));
    printf("statx: %d\n", sx.stx_ino == sy.stx_ino && sx.stx_dev_major == sy.stx_dev_major);
    T(write(fd, "abc", 3));
    int dup_fd = OK(dup(fd));
    same("dup", dup_fd, "q");
    ct_bytes("read", text, read(dup_fd, text, 10));
    CHILD("after exec") {
        char number[20];
        snprintf(number, sizeof number, "/proc/self/fd/%d", dup_fd);
        execlp("stat", "stat", "-L", "-c", "%F %a", number, NULL);
    }
    if (geteuid() == 0) {
        T(fchown(fd, 1, 2));
        same("fchown", fd, "r");
        CHILD("nobody may not") {
            ct_become_nobody();
            T(fchmod(fd, 0777));
        }
    }
    T(unlink("q"));
    T(unlink("r"));
    OK(fstat(fd, &st));
    printf("links %lu\n", (unsigned long)st.st_nlink);
    T(write(fd, "still", 5));
    ct_bytes("read", text, read(dup_fd, text, 10));
    if (geteuid() != 0) return;
    T(mkfifo("roots", 0600));
    CHILD("nobody") {
        ct_become_nobody();
        F(open("roots", O_RDONLY | O_NONBLOCK));
    }
}
