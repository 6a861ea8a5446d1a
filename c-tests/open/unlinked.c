/* A file without a name lives until its last close: reading, writing, growing, stat, in this process and a child. */
#include "ct.h"

static void test(void)
{
    struct stat st;
    char text[32];
    int fd = F(open("f", O_CREAT | O_RDWR, 0644));
    T(write(fd, "before", 6));
    T(unlink("f"));
    F(open("f", O_RDONLY));
    T(write(fd, " after", 6));
    T(pread(fd, text, 12, 0));
    ct_bytes("held", text, 12);
    T(fstat(fd, &st));
    printf("links %lu size %lld\n", (unsigned long)st.st_nlink, (long long)st.st_size);
    ct_put("f", "another file");
    T(pread(fd, text, 12, 0));
    ct_bytes("held", text, 12);
    ct_cat("f");
    CHILD("child") {
        T(pread(fd, text, 12, 0));
        ct_bytes("held by the child", text, 12);
        T(pwrite(fd, "BEFORE", 6, 0));
        T(close(fd));
    }
    T(pread(fd, text, 6, 0));
    ct_bytes("after the child", text, 6);
    T(ftruncate(fd, 3 << 20));
    T(pwrite(fd, "far", 3, 3 << 20));
    T(fchmod(fd, 0600));
    T(fstat(fd, &st));
    printf("mode %04o size %lld\n", st.st_mode & 07777, (long long)st.st_size);
    int two = OK(open("f", O_RDWR));
    ct_put("g", "over");
    T(rename("g", "f"));
    T(pread(two, text, 12, 0));
    ct_bytes("renamed over", text, 12);
    ct_cat("f");
    T(link("/proc/self/fd/none", "x"));
    T(close(two));
    T(close(fd));
    ct_ls(".");
}
