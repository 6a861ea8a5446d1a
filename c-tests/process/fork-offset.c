/* fork: parent and children share offsets of descriptors opened before, not of those opened after. */
#include "ct.h"

static void test(void)
{
    char text[16];
    ct_put("f", "0123456789abcdefghij");
    int fd = OK(open("f", O_RDONLY)), out = OK(open("out", O_CREAT | O_WRONLY, 0644));
    ct_bytes("parent", text, read(fd, text, 3));
    CHILD("child") {
        ct_bytes("child", text, read(fd, text, 4));
        OK(write(out, "child ", 6));
        int own = OK(open("f", O_RDONLY));
        ct_bytes("child's own", text, read(own, text, 2));
        CHILD("grandchild") {
            ct_bytes("grandchild", text, read(fd, text, 2));
            OK(write(out, "grandchild ", 11));
            close(fd);
        }
        ct_bytes("child", text, read(fd, text, 1));
    }
    ct_bytes("parent", text, read(fd, text, 3));
    OK(write(out, "parent", 6));
    ct_cat("out");
    CHILD("child seeks") { OK(lseek(fd, 18, SEEK_SET)); }
    ct_bytes("parent", text, read(fd, text, 5));
    pid_t pids[4];
    OK(lseek(out, 0, SEEK_SET));
    OK(ftruncate(out, 0));
    for (int i = 0; i < 4; i++)
        if ((pids[i] = ct_fork()) == 0) {
            for (int k = 0; k < 100; k++) OK(write(out, "0123456789", 10));
            _exit(0);
        }
    for (int i = 0; i < 4; i++) ct_wait("writer", pids[i]);
    T(lseek(out, 0, SEEK_CUR));
    ct_sum("out");
}
