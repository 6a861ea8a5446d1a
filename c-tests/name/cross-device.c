/* rename and link to another file system give EXDEV and leave both sides alone. */
#include "ct.h"

static void test(void)
{
    char other[64];
    snprintf(other, sizeof other, "/dev/shm/ct-cross-%d", getpid());
    ct_put("f", "here");
    mkdir("d", 0755);
    T(rename("f", other));
    T(link("f", other));
    T(rename("d", other));
    T(renameat2(AT_FDCWD, "f", AT_FDCWD, other, RENAME_NOREPLACE));
    ct_put(other, "there");
    T(rename(other, "g"));
    T(link(other, "g"));
    T(rename(other, "f"));
    T(renameat2(AT_FDCWD, "f", AT_FDCWD, other, RENAME_EXCHANGE));
    ct_cat("f");
    YES(access(other, F_OK) == 0);
    T(symlink(other, "to-there"));
    int fd = F(open("to-there", O_RDWR));
    char text[8];
    ct_bytes("through the link", text, read(fd, text, 5));
    T(unlink("to-there"));
    YES(unlink(other) == 0);
    ct_ls(".");
}
