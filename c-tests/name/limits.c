/* Names of any bytes, of 255 and 256; paths of 4095 and 4096; which of several errors comes first. */
#include "ct.h"

static void test(void)
{
    char name[400], path[5000], target[5000];
    struct stat st;
    for (int c = 1; c < 256; c++) {
        char one[3] = {(char)c, 'x', 0};
        if (c != '/' && mkdir(one, 0755) < 0) printf("byte %d: %s\n", c, ct_errname(errno));
    }
    for (int c = 1; c < 256; c++) {
        char one[3] = {(char)c, 'x', 0};
        if (c != '/' && rmdir(one) < 0) printf("byte %d: %s\n", c, ct_errname(errno));
    }
    memset(name, 'n', sizeof name);
    name[255] = 0;
    F(open(name, O_CREAT | O_RDWR, 0644));
    T(rename(name, "short"));
    T(link("short", name));
    name[255] = 'n', name[256] = 0;
    F(open(name, O_CREAT | O_RDWR, 0644));
    F(open(name, O_RDONLY));
    T(mkdir(name, 0755));
    T(symlink("x", name));
    T(link("short", name));
    T(link(name, "x"));
    T(rename("short", name));
    T(rename(name, "x"));
    T(unlink(name));
    T(stat(name, &st));
    mkdir("d", 0755);
    ct_put("f", "");
    symlink("loop", "loop");
    symlink("none", "dangling");
    /* Which error comes first. */
    char deep[600];
    snprintf(deep, sizeof deep, "none/%s", name);
    T(stat(deep, &st));
    snprintf(deep, sizeof deep, "f/%s", name);
    T(stat(deep, &st));
    snprintf(deep, sizeof deep, "loop/%s", name);
    T(stat(deep, &st));
    snprintf(deep, sizeof deep, "d/%s/x", name);
    T(stat(deep, &st));
    T(stat("f/", &st));
    T(stat("f/.", &st));
    T(stat("f/x", &st));
    T(stat("loop", &st));
    T(stat("loop/x", &st));
    T(lstat("loop", &st));
    T(lstat("loop/", &st));
    T(stat("dangling/", &st));
    T(mkdir("dangling", 0755));
    T(mkdir("dangling/", 0755));
    T(mkdir("f/", 0755));
    T(mkdir("d/", 0755));
    T(mkdir("d/.", 0755));
    T(mkdir("new/.", 0755));
    T(rmdir("d/."));
    T(rmdir("d/.."));
    T(rmdir("f"));
    T(rmdir("f/"));
    T(unlink("d"));
    T(unlink("d/"));
    T(unlink("f/"));
    T(unlink("d/."));
    T(unlink("none/"));
    F(open("none/", O_CREAT | O_RDWR, 0644));
    F(open("f/", O_CREAT | O_RDWR, 0644));
    F(open("d/", O_CREAT | O_RDWR, 0644));
    F(open("d", O_CREAT | O_RDONLY, 0644));
    F(open("d", O_CREAT | O_EXCL | O_RDWR, 0644));
    F(open("loop", O_CREAT | O_RDWR, 0644));
    F(open("loop", O_CREAT | O_EXCL | O_RDWR, 0644));
    F(open("loop", O_RDONLY | O_NOFOLLOW));
    F(open("dangling", O_RDONLY));
    F(open("dangling", O_CREAT | O_EXCL | O_RDWR, 0644));
    T(link("none", "x"));
    T(link("d", "x"));
    T(link("f", "d"));
    T(link("f", "none/x"));
    T(link("f", "x/"));
    T(link("none", "d"));
    T(rename("none", "d"));
    T(rename("f", "d"));
    T(rename("d", "f"));
    T(rename("f", "x/"));
    T(rename("f/", "x"));
    T(rename("d", "d/x"));
    T(rename("d/.", "x"));
    T(rename("d", "."));
    T(rename("d", "x/"));
    T(rename("x/", "d"));
    T(symlink("", "x"));
    T(symlink("x", "f"));
    T(symlink("x", "x/"));
    T(readlink("f", path, 10));
    T(readlink("loop", path, 0));
    T(readlink("none", path, 0));
    T(truncate("d", 0));
    T(truncate("loop", 0));
    T(truncate("f/", 0));
    T(stat("", &st));
    T(mkdir("", 0755));
    T(unlink(""));
    memset(path, '/', sizeof path);
    path[4094] = 'd', path[4095] = 0;
    T(stat(path + 4094 - 100, &st));
    memset(path, '.', sizeof path);
    for (int i = 1; i < 4095; i += 2) path[i] = '/';
    path[4095] = 0;
    T(stat(path, &st));
    path[4095] = '/', path[4096] = 0;
    T(stat(path, &st));
    memset(target, 't', sizeof target);
    target[4095] = 0;
    T(symlink(target, "long"));
    T(readlink("long", path, sizeof path));
    target[4095] = 't', target[4096] = 0;
    T(symlink(target, "longer"));
    for (int i = 0; i < 42; i++) {
        char a[20], b[20];
        snprintf(a, sizeof a, "s%d", i);
        snprintf(b, sizeof b, "s%d", i + 1);
        symlink(b, a);
    }
    ct_put("s42", "end");
    T(stat("s2", &st));
    T(stat("s1", &st));
    T(stat("s3", &st));
    if (geteuid() == 0) CHILD("nobody") {
        OK(chmod("d", 0700));
        ct_become_nobody();
        T(stat("d/none", &st));
        T(stat("d/.", &st));
        T(stat("d/..", &st));
        T(mkdir("d/x", 0755));
        T(mkdir("d", 0755));
        T(unlink("none"));
        T(unlink("f"));
        T(unlink("d"));
        T(rmdir("f"));
        T(rename("f", "g"));
        T(rename("none", "g"));
        T(link("f", "d"));
        T(symlink("x", "d"));
        F(open("d", O_RDWR));
        F(open("f", O_CREAT | O_EXCL | O_RDWR, 0644));
        F(open("new", O_CREAT | O_RDWR, 0644));
        F(open("f", O_RDWR | O_DIRECTORY));
        T(truncate("f", 0));
        T(truncate("d", 0));
        T(chmod("f", 0777));
        T(chown("f", CT_NOBODY, -1));
        T(utimensat(AT_FDCWD, "f", NULL, 0));
    }
}
