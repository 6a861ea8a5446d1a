/* Link counts of files and directories under every operation that changes them. */
#include "ct.h"

static void told(const char *path)
{
    struct stat st;
    if (lstat(path, &st) < 0) printf("%s: %s\n", path, ct_errname(errno));
    else printf("%s: %lu\n", path, (unsigned long)st.st_nlink);
}

static void test(void)
{
    mkdir("d", 0755);
    told("d");
    mkdir("d/a", 0755);
    mkdir("d/b", 0755);
    told("d");
    ct_put("d/f", "");
    told("d");
    T(rename("d/a", "a"));
    told("d");
    told("a");
    T(rename("a", "d/b/a"));
    told("d/b");
    T(rename("d/b/a", "d/a"));
    told("d");
    told("d/b");
    T(rename("d/a", "d/b"));
    told("d");
    T(rmdir("d/b"));
    told("d");
    T(link("d/f", "g"));
    T(link("g", "h"));
    told("g");
    T(unlink("d/f"));
    told("g");
    ct_put("other", "");
    T(rename("other", "h"));
    told("g");
    told("h");
    int fd = OK(open("g", O_RDWR));
    T(unlink("g"));
    struct stat st;
    T(fstat(fd, &st));
    printf("open and unlinked: %lu\n", (unsigned long)st.st_nlink);
    mkdir("e", 0755);
    fd = OK(open("e", O_RDONLY));
    T(rmdir("e"));
    T(fstat(fd, &st));
    printf("open and removed: %lu\n", (unsigned long)st.st_nlink);
}
