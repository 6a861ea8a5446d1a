/* rename under open descriptors: they stay with their file, whatever its name or the one it replaced. */
#include "ct.h"

static void told(const char *label, int fd)
{
    char text[32];
    struct stat st;
    ssize_t n = pread(fd, text, sizeof text, 0);
    OK(fstat(fd, &st));
    printf("%s: links %lu ", label, (unsigned long)st.st_nlink);
    ct_bytes("holds", text, n > 0 ? n : 0);
}

static void test(void)
{
    struct stat st;
    mkdir("d", 0755);
    ct_put("old", "old");
    ct_put("new", "new");
    int old = OK(open("old", O_RDWR)), new = OK(open("new", O_RDWR));
    T(rename("new", "old"));
    told("replaced", old);
    told("renamed", new);
    T(pwrite(old, "OLD", 3, 0));
    T(pwrite(new, "NEW", 3, 0));
    ct_cat("old");
    told("replaced", old);
    T(rename("old", "d/there"));
    T(pwrite(new, "!", 1, 3));
    ct_cat("d/there");
    int dir = OK(open("d", O_RDONLY));
    T(rename("d", "e"));
    T(fstatat(dir, "there", &st, 0));
    T(mkdir("f", 0755));
    T(rename("e", "f/g"));
    T(fstatat(dir, "there", &st, 0));
    T(fstatat(dir, "../../f", &st, 0));
    T(mkdir("empty", 0755));
    int empty = OK(open("empty", O_RDONLY));
    T(rename("f/g/there", "x"));
    T(rename("f/g", "empty"));
    T(fstat(empty, &st));
    printf("links of the replaced directory: %lu\n", (unsigned long)st.st_nlink);
    T(mkdirat(empty, "x", 0755));
    T(mkdirat(dir, "y", 0755));
    ct_ls(".");
    ct_ls("empty");
}
