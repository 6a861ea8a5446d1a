/* Identity changed by the raw system calls counts for the one thread that made it, as the kernel has it. */
#include "ct.h"
#include <pthread.h>
#include <sys/fsuid.h>

static void owner(const char *path)
{
    struct stat st;
    if (stat(path, &st) < 0) { printf("%s: %s\n", path, ct_errname(errno)); return; }
    printf("%s: %d %d\n", path, (int)st.st_uid, (int)st.st_gid);
}

static void *other(void *x)
{
    OK(syscall(SYS_setgroups, 0, NULL));
    OK(syscall(SYS_setresgid, -1, CT_NOBODY, -1));
    OK(syscall(SYS_setresuid, -1, CT_NOBODY, -1));
    F(open("secret", O_RDONLY));
    F(open("thread", O_CREAT | O_WRONLY, 0600));
    T(mkdir("thread-dir", 0700));
    T(access("secret", R_OK));
    T(eaccess("secret", R_OK));
    OK(syscall(SYS_setresuid, -1, 0, -1));
    F(open("secret", O_RDONLY));
    return x;
}

static void test(void)
{
    pthread_t thread;
    ct_put("secret", "x");
    OK(chmod("secret", 0600));
    OK(chmod(".", 0777));
    if (geteuid() != 0) {
        puts("not root: nothing to compare");
        return;
    }
    pthread_create(&thread, NULL, other, NULL);
    pthread_join(thread, NULL);
    F(open("secret", O_RDONLY));
    F(open("main", O_CREAT | O_WRONLY, 0600));
    owner("main");
    owner("thread");
    owner("thread-dir");
    CHILD("seteuid and back") {
        T(setegid(CT_NOBODY));
        T(seteuid(CT_NOBODY));
        F(open("secret", O_RDONLY));
        F(open("e", O_CREAT | O_WRONLY, 0600));
        T(seteuid(0));
        F(open("secret", O_RDONLY));
        owner("e");
    }
    CHILD("a group that helps") {
        OK(chown("secret", 0, 4242));
        OK(chmod("secret", 0640));
        gid_t groups[] = {1, 4242};
        OK(setgroups(2, groups));
        OK(setresuid(CT_NOBODY, CT_NOBODY, CT_NOBODY));
        F(open("secret", O_RDONLY));
        F(open("secret", O_RDWR));
    }
    CHILD("fsuid") {
        setfsuid(CT_NOBODY);
        OK(chmod("secret", 0600) < 0 ? 0 : 0);
        F(open("secret", O_RDWR));
        F(open("fs", O_CREAT | O_WRONLY, 0600));
        setfsuid(0);
        owner("fs");
    }
}
