/* Time rules: what changes mtime and ctime of files and directories, and what does not. */
#include "ct.h"

static struct stat before;
static const struct timespec old[2] = {{1000000000, 0}, {1000000000, 0}};

static void age(const char *path)
{
    OK(utimensat(AT_FDCWD, path, old, AT_SYMLINK_NOFOLLOW));
    OK(lstat(path, &before));
}

static void told(const char *what, const char *path)
{
    struct stat st;
    OK(lstat(path, &st));
    printf("%s: mtime of %s %s\n", what, path, st.st_mtim.tv_sec == 1000000000 ? "stays" : "moves");
}

static void test(void)
{
    char text[4];
    ct_put("f", "data");
    mkdir("d", 0755);
    ct_put("d/x", "x");
    age("f");
    int fd = OK(open("f", O_RDWR));
    told("open", "f");
    OK(read(fd, text, 4));
    told("read", "f");
    OK(fchmod(fd, 0600));
    told("chmod", "f");
    OK(link("f", "g"));
    told("link", "f");
    OK(rename("g", "h"));
    told("rename", "f");
    OK(write(fd, "", 0));
    told("write of nothing", "f");
    OK(pwrite(fd, "z", 1, 0));
    told("write", "f");
    age("f");
    OK(ftruncate(fd, 2));
    told("ftruncate", "f");
    age("f");
    close(OK(open("f", O_WRONLY | O_TRUNC)));
    told("O_TRUNC", "f");
    age("d");
    OK(chmod("d", 0700));
    told("chmod", "d");
    ct_put("d/x", "changed");
    told("writing a file in it", "d");
    ct_put("d/new", "");
    told("create in it", "d");
    age("d");
    OK(unlink("d/new"));
    told("unlink in it", "d");
    age("d");
    OK(mkdir("d/sub", 0755));
    told("mkdir in it", "d");
    age("d");
    age("d/sub");
    OK(mkdir("d/sub/sub", 0755));
    told("mkdir below it", "d");
    told("mkdir in it", "d/sub");
    age("d");
    age(".");
    OK(rename("d/x", "moved"));
    told("rename out of it", "d");
    told("rename into it", ".");
    age(".");
    OK(symlink("a", "sym"));
    told("symlink in it", ".");
    age("d");
    OK(rmdir("d/sub/sub"));
    OK(rmdir("d/sub"));
    told("rmdir in it", "d");
}
