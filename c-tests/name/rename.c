/* rename: files, directories, links, over each other; every errno. */
#include "ct.h"

static void test(void)
{
    ct_put("a", "A");
    ct_put("b", "B");
    mkdir("d", 0755);
    mkdir("d/sub", 0755);
    mkdir("e", 0755);
    symlink("a", "l");
    T(rename("a", "c"));
    T(rename("c", "b"));
    ct_cat("b");
    T(rename("none", "x"));
    T(rename("", "x"));
    T(rename("b", ""));
    T(rename("b", "none/x"));
    T(rename("b/x", "y"));
    T(rename("b", "b/x"));
    T(rename("b", "d"));
    T(rename("d", "b"));
    T(rename("e", "d"));
    T(rename("e", "d/sub"));
    T(rename("d/sub", "e"));
    T(rename("d", "d/inside"));
    mkdir("d/x", 0755);
    T(rename("d", "d/x/y"));
    T(rename("d/x", "d"));
    T(rename("d/x", "."));
    T(rename(".", "z"));
    T(rename("d", "d/."));
    T(rename("d/..", "z"));
    T(rename("b", "b"));
    T(rename("d", "d"));
    T(rename("b", "new/"));
    T(rename("b/", "new"));
    T(rename("e", "new/"));
    ct_ls(".");
    T(rename("new/", "e"));
    T(rename("l", "k"));
    ct_stat("k");
    symlink("d", "to-d");
    T(rename("to-d", "d2"));
    T(rename("d2/", "d3"));
    T(rename("b", "d2"));
    ct_ls(".");
    link("d2", "same");
    T(rename("d2", "same"));
    ct_ls(".");
    T(rename("d2", "d/moved"));
    ct_cat("d/moved");
    T(rename("d", "e"));
    ct_ls("e");
    T(rename("e/x", "x"));
    T(rename("x", "e"));
    ct_ls(".");
}
