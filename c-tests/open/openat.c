/* openat: relative to a directory descriptor, to AT_FDCWD, absolute, through a renamed and a removed directory. */
#include "ct.h"

static void test(void)
{
    mkdir("d", 0755);
    mkdir("d/sub", 0755);
    ct_put("d/f", "one");
    ct_put("f", "outer");
    int dir = F(open("d", O_RDONLY | O_DIRECTORY));
    int file = F(open("f", O_RDONLY));
    F(openat(dir, "f", O_RDONLY));
    F(openat(dir, "none", O_RDONLY));
    F(openat(dir, "../f", O_RDONLY));
    F(openat(file, "f", O_RDONLY));
    F(openat(file, ct_abs("f"), O_RDONLY));
    F(openat(-1, "f", O_RDONLY));
    F(openat(999, "f", O_RDONLY));
    F(openat(999, ct_abs("f"), O_RDONLY));
    F(openat(AT_FDCWD, "d/f", O_RDONLY));
    F(openat(dir, "", O_RDONLY));
    int made = F(openat(dir, "sub/new", O_CREAT | O_WRONLY, 0644));
    T(write(made, "made", 4));
    close(made);
    OK(rename("d", "moved"));
    F(openat(dir, "sub/new", O_RDONLY));
    close(OK(openat(dir, "after-rename", O_CREAT | O_WRONLY, 0644)));
    ct_ls("moved");
    ct_cat("moved/sub/new");
    int gone = OK(open("moved/sub", O_RDONLY));
    OK(unlink("moved/sub/new"));
    OK(rmdir("moved/sub"));
    F(openat(gone, "x", O_RDONLY));
    F(openat(gone, "x", O_CREAT | O_WRONLY, 0644));
    F(openat(gone, ".", O_RDONLY));
    F(openat(gone, "..", O_RDONLY));
}
