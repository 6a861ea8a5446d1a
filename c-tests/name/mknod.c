/* mknod and mknodat: regular files and FIFOs; sockets as inodes; bad types and errnos. */
#include "ct.h"

static void test(void)
{
    T(mknod("f", S_IFREG | 0640, 0));
    T(mknod("zero", 0600, 0));
    T(mknod("p", S_IFIFO | 0644, 0));
    T(mknod("s", S_IFSOCK | 0644, 0));
    T(mknod("f", S_IFREG | 0640, 0));
    T(mknod("d", S_IFDIR | 0755, 0));
    T(mknod("l", S_IFLNK | 0755, 0));
    T(mknod("odd", 0170000 | 0755, 0));
    T(mknod("none/x", S_IFREG | 0644, 0));
    T(mknod("f/x", S_IFREG | 0644, 0));
    int dir = OK(open(".", O_RDONLY));
    T(mknodat(dir, "at", S_IFREG | 0600, 0));
    T(mkfifoat(dir, "pat", 0600));
    T(mknodat(999, "at", S_IFREG | 0600, 0));
    F(open("s", O_RDONLY));
    ct_stat("f");
    ct_stat("zero");
    ct_stat("p");
    ct_stat("s");
    ct_stat("at");
    ct_stat("pat");
    ct_put("f", "now a file");
    ct_cat("f");
    T(link("p", "p2"));
    T(rename("p", "p3"));
    ct_stat("p2");
    T(unlink("s"));
    ct_ls(".");
}
