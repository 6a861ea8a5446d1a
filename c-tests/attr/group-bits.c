/* Set-group-id directories hand down their group; a write or a truncation by another user clears set-id bits. */
#include "ct.h"

static void told(const char *path)
{
    struct stat st;
    OK(lstat(path, &st));
    printf("%s: gid %u %04o\n", path, st.st_gid, st.st_mode & 07777);
}

static void test(void)
{
    if (geteuid() != 0) {
        puts("not root: nothing to compare");
        return;
    }
    mkdir("d", 0755);
    OK(chown("d", 0, 4242));
    ct_put("d/plain", "");
    told("d/plain");
    OK(chmod("d", 02777));
    told("d");
    ct_put("d/f", "");
    OK(mkdir("d/sub", 0755));
    OK(symlink("x", "d/l"));
    OK(mkfifo("d/p", 0644));
    told("d/f");
    told("d/sub");
    told("d/l");
    told("d/p");
    OK(mkdir("d/sub/deeper", 0700));
    told("d/sub/deeper");
    OK(rename("d/plain", "d/sub/plain"));
    told("d/sub/plain");
    ct_put("set", "data");
    OK(chmod("set", 06777));
    int fd = OK(open("set", O_RDWR));
    OK(write(fd, "x", 1));
    told("set");
    CHILD("nobody writes") {
        ct_become_nobody();
        fd = OK(open("set", O_RDWR));
        OK(write(fd, "y", 1));
        told("set");
    }
    OK(chmod("set", 06777));
    CHILD("nobody truncates") {
        ct_become_nobody();
        OK(truncate("set", 1));
        told("set");
    }
    OK(chmod("set", 02767));
    CHILD("nobody writes a file with mandatory bits") {
        ct_become_nobody();
        fd = OK(open("set", O_WRONLY));
        OK(write(fd, "z", 1));
        told("set");
    }
    CHILD("nobody creates in a set-group-id directory") {
        ct_become_nobody();
        fd = OK(open("d/nobodys", O_CREAT | O_WRONLY, 02755));
        told("d/nobodys");
    }
}
