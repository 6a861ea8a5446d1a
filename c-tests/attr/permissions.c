/* Permission checks of every operation for another user: owner, group and other classes, search, sticky directories. */
#include "ct.h"

static void as_nobody(void)
{
    struct stat st;
    F(open("private", O_RDONLY));
    F(open("readable", O_RDONLY));
    F(open("readable", O_RDWR));
    F(open("readable", O_RDONLY | O_TRUNC));
    F(open("writable", O_WRONLY));
    F(open("writable", O_RDONLY));
    F(open("new", O_CREAT | O_WRONLY, 0644));
    F(open("closed/f", O_RDONLY));
    T(stat("closed/f", &st));
    T(stat("private", &st));
    P(opendir("closed"));
    P(opendir("searchable"));
    F(open("searchable/f", O_RDONLY));
    T(mkdir("d", 0755));
    T(unlink("private"));
    T(rename("private", "x"));
    T(symlink("x", "y"));
    T(mkfifo("p", 0644));
    T(rmdir("closed"));
    T(truncate("readable", 0));
    T(chmod("readable", 0777));
    T(chdir("closed"));
    T(chdir("searchable"));
    T(chdir(".."));
    F(open("shared/mine", O_CREAT | O_WRONLY, 0600));
    T(unlink("shared/roots"));
    T(rename("shared/roots", "shared/x"));
    T(rename("shared/mine", "shared/x"));
    T(unlink("shared/x"));
    T(rename("shared/roots-dir", "shared/y"));
    F(open("shared/new/x", O_CREAT | O_WRONLY, 0600));
    T(mkdir("shared/new", 0700));
    F(open("shared/new/x", O_CREAT | O_WRONLY, 0600));
    T(rename("shared/new/x", "open/x"));
    T(rename("open/x", "shared/roots"));
    T(unlink("open/roots"));
    ct_stat("open/x");
    F(open("group", O_RDWR));
    F(open("owner-none", O_RDONLY));
    T(chmod("owner-none", 0600));
    F(open("owner-none", O_RDONLY));
    F(open("open", O_TMPFILE | O_RDWR, 0600));
    F(open("closed", O_TMPFILE | O_RDWR, 0600));
}

static void test(void)
{
    ct_put("private", "x");
    chmod("private", 0600);
    ct_put("readable", "x");
    ct_put("writable", "x");
    chmod("writable", 0622);
    mkdir("closed", 0700);
    ct_put("closed/f", "x");
    mkdir("searchable", 0711);
    ct_put("searchable/f", "x");
    mkdir("shared", 0755);
    chmod("shared", 01777);
    ct_put("shared/roots", "x");
    chmod("shared/roots", 0666);
    mkdir("shared/roots-dir", 0777);
    mkdir("open", 0755);
    chmod("open", 0777);
    ct_put("open/roots", "x");
    ct_put("group", "x");
    chmod("group", 0660);
    ct_put("owner-none", "x");
    chmod("owner-none", 0077);
    if (geteuid() != 0) {
        puts("not root: nothing to compare");
        return;
    }
    OK(chown("group", 0, CT_NOBODY));
    OK(chown("owner-none", CT_NOBODY, 0));
    CHILD("nobody") {
        ct_become_nobody();
        as_nobody();
    }
    F(open("private", O_RDWR));
    F(open("closed/f", O_RDWR));
    ct_ls(".");
    ct_ls("shared");
    ct_ls("open");
}
