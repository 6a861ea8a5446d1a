/* unlink and unlinkat: what can be removed, what not, and the other names that stay. */
#include "ct.h"

static void test(void)
{
    ct_put("f", "x");
    link("f", "g");
    symlink("f", "l");
    symlink("none", "dang");
    mkfifo("p", 0644);
    mkdir("d", 0755);
    T(unlink("f"));
    T(unlink("f"));
    ct_stat("g");
    ct_cat("g");
    T(unlink("l"));
    T(unlink("dang"));
    T(unlink("p"));
    T(unlink("d"));
    T(unlink("d/"));
    T(unlink("g/"));
    T(unlink("g/x"));
    T(unlink(""));
    T(unlink("."));
    T(unlink("none/x"));
    int dir = OK(open("d", O_RDONLY));
    ct_put("d/a", "");
    T(unlinkat(dir, "a", 0));
    T(unlinkat(dir, "../g", 0));
    T(unlinkat(999, "x", 0));
    T(remove("d"));
    ct_put("h", "");
    T(remove("h"));
    T(remove("none"));
    ct_ls(".");
}
