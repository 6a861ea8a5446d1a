/* open: O_CREAT, O_EXCL, O_TRUNC and access modes, with every errno that names and types give. */
#include "ct.h"

static void test(void)
{
    F(open("none", O_RDONLY));
    F(open("", O_RDONLY));
    int fd = F(open("f", O_CREAT | O_WRONLY, 0640));
    T(write(fd, "hello", 5));
    T(read(fd, ct_dir, 1));
    T(close(fd));
    T(close(fd));
    ct_stat("f");
    F(open("f", O_CREAT | O_EXCL | O_RDWR, 0644));
    fd = F(open("f", O_CREAT | O_RDONLY, 0777));
    T(write(fd, "x", 1));
    T(ftruncate(fd, 0));
    close(fd);
    ct_stat("f");
    fd = F(open("f", O_TRUNC | O_RDWR));
    ct_stat("f");
    close(fd);
    F(open("new", O_CREAT | O_EXCL | O_RDWR, 0600));
    ct_stat("new");
    fd = F(creat("f2", 0444));
    T(write(fd, "abc", 3));
    close(fd);
    ct_stat("f2");
    fd = F(creat("f", 0444));
    close(fd);
    ct_stat("f");
    F(open("f/", O_RDONLY));
    F(open("f/x", O_RDONLY));
    F(open("f/x", O_CREAT | O_RDWR, 0644));
    F(open("no/x", O_CREAT | O_RDWR, 0644));
    F(open("new2/", O_CREAT | O_RDWR, 0644));
    mkdir("d", 0755);
    F(open("d", O_WRONLY));
    F(open("d", O_RDWR));
    F(open("d", O_RDONLY | O_CREAT, 0644));
    F(open("d", O_RDONLY | O_TRUNC));
    F(open("d", O_CREAT | O_EXCL | O_RDONLY, 0644));
    F(open(".", O_CREAT | O_RDWR, 0644));
    F(open("d/", O_RDONLY));
    F(open("d/.", O_RDONLY));
    F(open("d/..", O_RDONLY));
    symlink("dangling-target", "dang");
    F(open("dang", O_RDONLY));
    F(open("dang", O_CREAT | O_EXCL | O_RDWR, 0644));
    F(open("dang", O_CREAT | O_RDWR, 0644));
    ct_ls(".");
}
