/* A working directory that was removed: it is there, without a link and without entries, and nothing can be made in it,
 * until nobody is in it any more. */
#include "ct.h"

static void show(const char *path)
{
    struct stat st;
    int failed = stat(path, &st);
    if (failed) printf("%s: %s\n", path, ct_errname(errno));
    else printf("%s: %c %04o links %lu\n", path, ct_type(st.st_mode), st.st_mode & 07777, (unsigned long)st.st_nlink);
}

static void names_in_it(int fd)
{
    struct stat st;
    T(open("x", O_CREAT | O_RDWR, 0644));
    T(open("x", O_RDONLY));
    T(openat(fd, "x", O_CREAT | O_RDWR, 0644));
    T(mkdir("y", 0755));
    T(mkdirat(fd, "y", 0755));
    T(symlink("a", "b"));
    T(mknod("n", S_IFIFO | 0600, 0));
    T(link(ct_abs("f"), "l"));
    T(rename(ct_abs("f"), "m"));
    T(rename(".", "z"));
    T(unlink("x"));
    T(rmdir("x"));
    T(rmdir("."));
    T(stat("x", &st));
}

static void itself(int fd)
{
    struct statx sx;
    struct statfs sf;
    char text[100];
    T(access(".", R_OK | W_OK | X_OK));
    T(chmod(".", 0700));
    show(".");
    T(utimensat(AT_FDCWD, ".", NULL, 0));
    T(chown(".", -1, -1));
    T(setxattr(".", "user.a", "b", 1, 0));
    T(getxattr(".", "user.a", text, 10));
    T(statx(AT_FDCWD, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &sx));
    printf("links %u\n", sx.stx_nlink);
    T(statfs(".", &sf));
    T(fsync(fd));
    T(flock(fd, LOCK_EX));
    T(fchmod(fd, 0711));
    show("./.");
}

static void opened(void)
{
    char entries[4096];
    F(open(".", O_RDONLY | O_DIRECTORY));
    F(open(".", O_PATH));
    F(open(".", O_RDONLY | O_NOFOLLOW));
    F(open("./.", O_RDONLY));
    F(open(".", O_WRONLY));
    F(open(".", O_RDONLY | O_CREAT, 0644));
    F(open(".", O_DIRECTORY | O_CREAT, 0644));
    T(syscall(SYS_getdents64, OK(open(".", O_RDONLY)), entries, sizeof entries));
    DIR *d = opendir(".");
    printf("opendir: %s\n", d ? "yes" : ct_errname(errno));
    errno = 0;
    printf("entries: %d, %s\n", d && readdir(d), ct_errname(errno));
}

static void test(void)
{
    char path[PATH_MAX];
    ct_put("f", "a file");
    mkdir("top", 0755);
    mkdir("top/gone", 0755);
    T(chdir("top/gone"));
    T(rmdir("../gone"));
    show(".");
    printf("cwd: %s\n", getcwd(path, sizeof path) ? "known" : ct_errname(errno));
    int fd = F(open(".", O_RDONLY));
    opened();
    names_in_it(fd);
    itself(fd);
    show("..");
    F(open("..", O_RDONLY));
    ct_ls("..");
    T(chdir("."));
    CHILD("inherited") {
        show(".");
        F(open(".", O_RDONLY));
        T(chdir(".."));
        show(".");
    }
    CHILD("executed") { execlp("ls", "ls", "-la", NULL); }
    T(mkdir("../gone", 0755));
    show("../gone");
    show(".");
    T(close(fd));
    T(chdir(".."));
    T(rmdir("gone"));
    CHILD("removed, and a program executed in it") {
        OK(mkdir("its", 0755));
        OK(chdir("its"));
        OK(rmdir("../its"));
        execlp("stat", "stat", "-c", "%F %h", ".", NULL);
    }
    OK(mkdir("by-fd", 0755));
    fd = OK(open("by-fd", O_RDONLY));
    T(fchdir(fd));
    T(rmdir("../by-fd"));
    T(close(fd));
    show(".");
    T(chdir(ct_dir));
    show(".");
}
