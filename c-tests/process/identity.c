/* Threads and processes that change their user: new files belong to the effective user, checks follow it. */
#include "ct.h"

static void *as_nobody(void *unused)
{
    (void)unused;
    if (syscall(SYS_setresuid, -1, CT_NOBODY, -1) < 0) puts("cannot change");
    F(open("private", O_RDONLY));
    close(OK(open("open/by-thread", O_CREAT | O_WRONLY, 0644)));
    return NULL;
}

static void told(const char *path)
{
    struct stat st;
    OK(stat(path, &st));
    printf("%s: %u:%u\n", path, st.st_uid, st.st_gid);
}

static void test(void)
{
    pthread_t thread;
    if (geteuid() != 0) {
        puts("not root: nothing to compare");
        return;
    }
    ct_put("private", "x");
    chmod("private", 0600);
    mkdir("open", 0755);
    chmod("open", 0777);
    CHILD("one thread changes") {
        pthread_create(&thread, NULL, as_nobody, NULL);
        pthread_join(thread, NULL);
        F(open("private", O_RDONLY));
        close(OK(open("open/by-root", O_CREAT | O_WRONLY, 0644)));
    }
    told("open/by-thread");
    told("open/by-root");
    CHILD("seteuid there and back") {
        OK(seteuid(CT_NOBODY));
        F(open("private", O_RDONLY));
        ct_put("open/effective", "");
        OK(seteuid(0));
        F(open("private", O_RDONLY));
        ct_put("open/back", "");
    }
    told("open/effective");
    told("open/back");
    CHILD("groups") {
        gid_t groups[] = {4242};
        OK(setgroups(1, groups));
        OK(setegid(4343));
        ct_put("open/group", "");
        told("open/group");
        OK(chown("private", 0, 4242));
        OK(chmod("private", 0040));
        OK(setresuid(CT_NOBODY, CT_NOBODY, CT_NOBODY));
        F(open("private", O_RDONLY));
        F(open("private", O_WRONLY));
    }
    int fd = OK(open("private", O_RDWR));
    CHILD("an open descriptor keeps its rights") {
        ct_become_nobody();
        T(write(fd, "y", 1));
        F(open("private", O_RDWR));
    }
}
