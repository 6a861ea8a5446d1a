/* umask: takes bits from open, mkdir, mkfifo and mknod, not from chmod; setuid, setgid and sticky bits at creation. */
#include "ct.h"

static void one(mode_t mask, const char *name)
{
    char path[64];
    printf("umask %03o, was %03o\n", mask, umask(mask));
    close(open(name, O_CREAT | O_WRONLY, 0777));
    ct_stat(name);
    snprintf(path, sizeof path, "%s-dir", name);
    T(mkdir(path, 0777));
    ct_stat(path);
    snprintf(path, sizeof path, "%s-fifo", name);
    T(mkfifo(path, 0666));
    ct_stat(path);
    snprintf(path, sizeof path, "%s-node", name);
    T(mknod(path, S_IFREG | 0777, 0));
    ct_stat(path);
    T(chmod(name, 0666));
    ct_stat(name);
}

static void test(void)
{
    one(0, "a");
    one(022, "b");
    one(077, "c");
    one(0777, "d");
    umask(0);
    close(open("bits", O_CREAT | O_WRONLY, 06755));
    ct_stat("bits");
    T(mkdir("bits-dir", 01777));
    ct_stat("bits-dir");
    CHILD("a child has a mask of its own") { umask(0111); ct_put("child", ""); }
    ct_put("parent", "");
    ct_stat("child");
    ct_stat("parent");
}
