/* realpath and canonicalize_file_name: dots, links, missing parts, loops. */
#include "ct.h"

static void one(const char *path)
{
    char *real = realpath(path, NULL);
    printf("%s -> %s\n", ct_rel(path), real ? ct_rel(real) : ct_errname(errno));
    free(real);
}

static void test(void)
{
    char buffer[PATH_MAX];
    mkdir("a", 0755);
    mkdir("a/b", 0755);
    ct_put("a/b/f", "");
    symlink("a/b", "l");
    symlink("../..", "a/b/up");
    symlink("loop", "loop");
    symlink("none", "dang");
    symlink(ct_abs("a"), "abs");
    one(".");
    one("a/b/f");
    one("./a/../a//b/./f");
    one("l/f");
    one("l/..");
    one("a/b/up/l");
    one("abs/b/f");
    one("loop");
    one("dang");
    one("none");
    one("none/x");
    one("a/b/f/x");
    one("a/b/f/..");
    one("");
    one(ct_abs("l/up/abs"));
    YES(realpath("l", buffer) == buffer);
    OK(chdir("l"));
    one(".");
    one("..");
    one("f");
    one("up/l/f");
    char *name = canonicalize_file_name("f");
    printf("%s\n", ct_rel(name));
    one("/");
    one("/usr/../tmp/..");
}
