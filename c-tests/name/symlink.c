/* symlink and readlink: targets kept byte for byte, sizes, short buffers, what follows and what does not. */
#include "ct.h"

static void test(void)
{
    char text[PATH_MAX + 10], longest[PATH_MAX + 10];
    struct stat st;
    T(symlink("target", "l"));
    T(symlink("target", "l"));
    T(symlink("", "e"));
    T(symlink("x", "none/l"));
    T(symlink("x", ""));
    T(symlink("a//b/../ c\n\xff", "odd"));
    ct_bytes("readlink", text, T(readlink("odd", text, sizeof text)));
    ct_bytes("short", text, T(readlink("l", text, 3)));
    T(readlink("l", text, 0));
    T(readlink("l", text, -1));
    T(readlink("none", text, 10));
    T(readlink("l/", text, 10));
    ct_put("f", "f");
    T(readlink("f", text, 10));
    T(readlink(".", text, 10));
    ct_stat("l");
    memset(longest, 'y', sizeof longest);
    longest[PATH_MAX - 1] = 0;
    T(symlink(longest, "long"));
    T(readlink("long", text, sizeof text));
    longest[PATH_MAX - 1] = 'y', longest[PATH_MAX] = 0;
    T(symlink(longest, "too-long"));
    int dir = OK(open(".", O_RDONLY));
    T(symlinkat("f", dir, "at"));
    ct_bytes("readlinkat", text, T(readlinkat(dir, "at", text, 10)));
    T(symlinkat("f", 999, "at"));
    T(chmod("at", 0600));
    ct_stat("f");
    ct_stat("at");
    T(truncate("at", 0));
    ct_stat("f");
    T(stat("l", &st));
    ct_put("target", "made");
    T(stat("l", &st));
    mkdir("d", 0755);
    ct_put("d/x", "in d");
    symlink("d", "to-d");
    ct_cat("to-d/x");
    symlink("../target", "d/up");
    ct_cat("d/up");
    ct_cat("to-d/up");
    symlink(".", "here");
    ct_cat("here/here/here/target");
    symlink("to-d/x", "two-steps");
    ct_cat("two-steps");
    ct_stat("here");
    T(open("l/", O_RDONLY));
}
