/* Name spaces of extended attributes: user.* where it may be, trusted.* for root alone, others; sizes that do not fit. */
#include "ct.h"

static void on(const char *path)
{
    char value[10];
    printf("# %s\n", path);
    T(lsetxattr(path, "user.a", "v", 1, 0));
    T(lgetxattr(path, "user.a", value, sizeof value));
    T(lremovexattr(path, "user.a"));
    T(lsetxattr(path, "trusted.a", "v", 1, 0));
    T(lgetxattr(path, "trusted.a", value, sizeof value));
    T(lgetxattr(path, "trusted.none", value, sizeof value));
    T(llistxattr(path, NULL, 0));
}

static void list(const char *path)
{
    char names[200];
    ssize_t n = listxattr(path, names, sizeof names);
    printf("list %s: %zd\n", path, n);
    for (char *p = names; n > 0 && p < names + n; p += strlen(p) + 1) puts(p);
}

static void test(void)
{
    static char big[70000];
    char value[10];
    ct_put("f", "x");
    ct_put("theirs", "x");
    mkdir("d", 0755);
    symlink("f", "l");
    mkfifo("p", 0666);
    mknod("s", S_IFSOCK | 0666, 0);
    if (geteuid() != 0) {
        puts("not root: nothing to compare");
        return;
    }
    mknod("c", S_IFCHR | 0666, makedev(1, 3));
    OK(chmod("f", 0666));
    const char *const all[] = {"f", "d", "l", "p", "s", "c"};
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) on(all[i]);
    T(setxattr("f", "user.b", "one", 3, 0));
    list("f");
    T(setxattr("f", "trusted.", "v", 1, 0));
    T(setxattr("f", "other.x", "v", 1, 0));
    T(setxattr("f", "trusted.a", "w", 1, XATTR_CREATE));
    T(setxattr("f", "trusted.z", "w", 1, XATTR_REPLACE));
    T(getxattr("f", "user.b", value, 2));
    T(getxattr("f", "user.b", value, 3));
    T(setxattr("f", "user.big", big, 65537, 0));
    T(setxattr("none", "user.big", big, 65537, 0));
    T(setxattr("f", "user.a", BAD, 1, 0));
    T(setxattr("f", BAD, "v", 1, 0));
    T(getxattr("f", "user.b", BAD, 3));
    T(listxattr("f", BAD, 100));
    T(listxattr("f", value, 2));
    OK(chmod("d", 01777));
    CHILD("nobody") {
        ct_become_nobody();
        T(setxattr("f", "trusted.a", "v", 1, 0));
        T(getxattr("f", "trusted.a", value, sizeof value));
        T(removexattr("f", "trusted.a"));
        list("f");
        T(setxattr("f", "user.n", "v", 1, 0));
        T(setxattr("theirs", "user.n", "v", 1, 0));
        T(getxattr("theirs", "user.n", value, sizeof value));
        T(setxattr("d", "user.n", "v", 1, 0));
        T(lsetxattr("l", "trusted.a", "v", 1, 0));
        T(lgetxattr("l", "trusted.a", value, sizeof value));
        T(setxattr("p", "user.n", "v", 1, 0));
    }
    T(removexattr("f", "trusted.a"));
    list("f");
}
