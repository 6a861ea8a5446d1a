/* A tree 150 levels deep: made step by step, its leaf reachable only relatively, removed again from below. */
#include "ct.h"

enum { DEPTH = 150, REACHABLE = 20 };

static void test(void)
{
    struct stat st;
    char name[41], path[PATH_MAX * 2] = ".", cwd[PATH_MAX];
    memset(name, 'x', sizeof name);
    name[40] = 0;
    for (int i = 0; i < DEPTH; i++) {
        OK(mkdir(name, 0755));
        OK(chdir(name));
        strcat(strcat(path, "/"), name);
    }
    ct_put("leaf", "deep inside");
    ct_cat("leaf");
    printf("getcwd: %s\n", getcwd(cwd, sizeof cwd) ? "fits" : ct_errname(errno));
    YES(strlen(path) > PATH_MAX);
    OK(chdir(ct_dir));
    T(stat(path, &st));
    T(chdir(path));
    path[1 + 41 * REACHABLE] = 0;
    T(stat(path, &st));
    T(chdir(path));
    YES(strlen(getcwd(cwd, sizeof cwd)) == strlen(ct_dir) + 41 * REACHABLE);
    for (int i = REACHABLE; i < DEPTH; i++) OK(chdir(name));
    ct_cat("leaf");
    T(unlink("leaf"));
    for (int i = DEPTH; i > 0; i--) {
        OK(chdir(".."));
        if (rmdir(name) < 0) printf("level %d: %s\n", i, ct_errname(errno));
    }
    ct_ls(".");
    YES(!strcmp(getcwd(cwd, sizeof cwd), ct_dir));
}
