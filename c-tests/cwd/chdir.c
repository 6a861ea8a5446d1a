/* chdir, fchdir, getcwd: relative work everywhere, through links, after rename and removal, in children. */
#include "ct.h"

static const char *here(void)
{
    static char path[PATH_MAX];
    return getcwd(path, sizeof path) ? ct_rel(path) : ct_errname(errno);
}
#define HERE() printf("cwd %s\n", here())

static void test(void)
{
    char small[4];
    mkdir("a", 0755);
    mkdir("a/b", 0755);
    ct_put("a/f", "in a");
    symlink("a/b", "l");
    HERE();
    T(chdir("a"));
    HERE();
    ct_cat("f");
    ct_put("made", "relative");
    T(chdir("b"));
    HERE();
    ct_cat("../made");
    T(chdir(".."));
    T(chdir("../l"));
    HERE();
    T(chdir(".."));
    HERE();
    T(chdir(ct_dir));
    T(chdir("none"));
    T(chdir("a/f"));
    T(chdir("a/f/x"));
    T(chdir(""));
    HERE();
    int fd = OK(open("a/b", O_RDONLY)), file = OK(open("a/f", O_RDONLY)), top = OK(open(".", O_PATH));
    T(fchdir(fd));
    HERE();
    T(fchdir(file));
    T(fchdir(-1));
    CHILD("child") {
        HERE();
        T(chdir("../.."));
        HERE();
        ct_put("childs", "x");
    }
    HERE();
    T(fchdir(top));
    HERE();
    ct_ls(".");
    T(chdir("a/b"));
    T(rename(ct_abs("a"), ct_abs("moved")));
    HERE();
    ct_ls("..");
    T(mkdir("new", 0755));
    T(chdir("new"));
    T(rmdir("../new"));
    HERE();
    T(open("x", O_CREAT | O_WRONLY, 0644));
    T(mkdir("y", 0755));
    T(open(".", O_RDONLY) >= 0);
    T(chdir("."));
    ct_ls(".");
    T(chdir(ct_dir));
    HERE();
    printf("too small: %s\n", getcwd(small, sizeof small) ? "fits" : ct_errname(errno));
    T(syscall(SYS_getcwd, small, 4));
    char *own = P(getcwd(NULL, 0));
    YES(!strcmp(own, ct_dir));
    free(own);
    own = P(get_current_dir_name());
    YES(!strcmp(own, ct_dir));
    free(own);
    T(chdir("/"));
    HERE();
    T(access(ct_dir, F_OK));
    T(chdir(ct_abs("moved/b/..")));
    HERE();
    CHILD("a shell here") { execlp("sh", "sh", "-c", "ls; cat f; cd b; ls -A; pwd -P > ../where", NULL); }
    ct_ls(".");
}
