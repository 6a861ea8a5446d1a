/* Extended attributes user.*: set, get, list, remove, sizes and errnos, on files, directories, links, descriptors. */
#include "ct.h"

static void list(const char *path)
{
    char names[1000], *sorted[20];
    int count = 0;
    ssize_t n = listxattr(path, names, sizeof names);
    if (n < 0) { printf("list %s: %s\n", path, ct_errname(errno)); return; }
    for (char *p = names; p < names + n; p += strlen(p) + 1)
        if (!strncmp(p, "user.", 5)) sorted[count++] = p;
    qsort(sorted, count, sizeof *sorted, ct_by_name);
    printf("list %s:", path);
    for (int i = 0; i < count; i++) printf(" %s", sorted[i]);
    puts("");
}

static void test(void)
{
    char value[300], name[300];
    ct_put("f", "x");
    mkdir("d", 0755);
    symlink("f", "l");
    T(setxattr("f", "user.a", "one", 3, 0));
    T(setxattr("f", "user.b", "\0binary\xff", 8, XATTR_CREATE));
    T(setxattr("f", "user.b", "again", 5, XATTR_CREATE));
    T(setxattr("f", "user.c", "none", 4, XATTR_REPLACE));
    T(setxattr("f", "user.a", "replaced", 8, XATTR_REPLACE));
    T(setxattr("f", "user.empty", "", 0, 0));
    ct_bytes("user.a", value, T(getxattr("f", "user.a", value, sizeof value)));
    ct_bytes("user.b", value, T(getxattr("f", "user.b", value, sizeof value)));
    T(getxattr("f", "user.empty", value, sizeof value));
    T(getxattr("f", "user.a", NULL, 0));
    T(getxattr("f", "user.a", value, 3));
    T(getxattr("f", "user.none", value, 3));
    list("f");
    T(listxattr("f", value, 1));
    T(removexattr("f", "user.b"));
    T(removexattr("f", "user.b"));
    list("f");
    T(setxattr("l", "user.l", "v", 1, 0));
    list("f");
    T(lsetxattr("l", "user.l", "v", 1, 0));
    T(lgetxattr("l", "user.a", value, 10));
    T(setxattr("d", "user.d", "dir", 3, 0));
    list("d");
    int fd = OK(open("f", O_RDONLY)), dir = OK(open("d", O_RDONLY));
    T(fsetxattr(fd, "user.fd", "value", 5, 0));
    ct_bytes("user.fd", value, T(fgetxattr(fd, "user.fd", value, sizeof value)));
    T(fgetxattr(dir, "user.d", value, sizeof value));
    T(fremovexattr(fd, "user.fd"));
    list("f");
    T(setxattr("f", "nonamespace", "v", 1, 0));
    T(setxattr("f", "user.", "v", 1, 0));
    T(setxattr("f", "", "v", 1, 0));
    T(setxattr("f", "other.x", "v", 1, 0));
    T(getxattr("f", "other.x", value, 1));
    T(setxattr("f", "user.x", "v", 1, 77));
    memset(name, 'n', sizeof name);
    memcpy(name, "user.", 5);
    name[255] = 0;
    T(setxattr("f", name, "v", 1, 0));
    T(removexattr("f", name));
    name[255] = 'n', name[256] = 0;
    T(setxattr("f", name, "v", 1, 0));
    T(setxattr("none", "user.a", "v", 1, 0));
    T(getxattr("none", "user.a", value, 1));
    T(fgetxattr(-1, "user.a", value, 1));
    static char big[70000];
    T(setxattr("f", "user.big", big, 70000, 0));
    T(setxattr("f", "user.k", big, 2000, 0));
    T(getxattr("f", "user.k", big, sizeof big));
    T(rename("f", "g"));
    list("g");
    ct_put("plain", "");
    list("plain");
}
