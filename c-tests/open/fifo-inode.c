/* An open FIFO is the inode that its name is: fstat, fchmod, fchown, futimens, xattrs, after a rename too, and when its
 * last name is gone; who may open it. */
#include "ct.h"

static void same(const char *what, int fd, const char *path)
{
    struct stat a, b;
    OK(fstat(fd, &a));
    OK(stat(path, &b));
    printf("%s: %s, %c %04o %d %d links %lu\n", what, a.st_ino == b.st_ino && a.st_dev == b.st_dev ? "same" : "ANOTHER",
           ct_type(a.st_mode), a.st_mode & 07777, (int)a.st_uid, (int)a.st_gid, (unsigned long)a.st_nlink);
}

static void show(const char *what, int fd)
{
    struct stat st;
    OK(fstat(fd, &st));
    printf("%s: %c %04o %d %d links %lu, mtime %s\n", what, ct_type(st.st_mode), st.st_mode & 07777, (int)st.st_uid, (int)st.st_gid,
           (unsigned long)st.st_nlink, st.st_mtim.tv_sec == 7 && st.st_mtim.tv_nsec == 8 ? "as set" : "another");
}

static void without_a_name(void)
{
    char number[32], text[10];
    struct stat before, after;
    const struct timespec times[2] = {{5, 6}, {7, 8}};
    T(mkfifo("n", 0640));
    int fd = F(open("n", O_RDWR));
    OK(fstat(fd, &before));
    T(unlink("n"));
    show("unlinked", fd);
    OK(fstat(fd, &after));
    YES(after.st_ino == before.st_ino && after.st_dev == before.st_dev);
    T(fchmod(fd, 0600));
    T(futimens(fd, times));
    show("changed", fd);
    T(fsetxattr(fd, "user.a", "b", 1, 0));
    T(fgetxattr(fd, "user.a", text, 10));
    if (geteuid() == 0) {
        T(fchown(fd, 1, 2));
        T(fsetxattr(fd, "trusted.a", "bc", 2, 0));
        T(fgetxattr(fd, "trusted.a", text, 10));
        CHILD("nobody may not") {
            ct_become_nobody();
            T(fchmod(fd, 0777));
        }
    }
    snprintf(number, sizeof number, "/proc/self/fd/%d", fd);
    T(chmod(number, 0644));
    CHILD("child") {
        show("there", fd);
        T(fchmod(fd, 0611));
    }
    CHILD("executed") { execlp("stat", "stat", "-L", "-c", "%F %a %h", number, NULL); }
    int copy = OK(dup(fd)), third = OK(open("/dev/null", O_RDONLY));
    T(close(fd));
    T(fchmod(copy, 0700));
    T(dup2(copy, third) == third);
    T(close(copy));
    show("by the last copy", third);
    T(mkfifo("n", 0604));
    int new = F(open("n", O_RDWR));
    T(fchmod(third, 0711));
    show("the old one", third);
    same("the new one", new, "n");
    T(close(third));
    T(unlink("n"));
    show("the new one", new);
    T(close(new));
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
    without_a_name();
    if (geteuid() != 0) return;
    T(mkfifo("roots", 0600));
    CHILD("nobody") {
        ct_become_nobody();
        F(open("roots", O_RDONLY | O_NONBLOCK));
    }
}
