/* Path resolution: dots, doubled and trailing slashes, long names, long paths, symlinks in the middle, loops. */
#include "ct.h"

static void test(void)
{
    struct stat st;
    char name[300], path[PATH_MAX + 300];
    mkdir("a", 0755);
    mkdir("a/b", 0755);
    ct_put("a/b/f", "deep");
    T(stat("a//b///f", &st));
    T(stat("./a/./b/./f", &st));
    T(stat("a/b/../b/f", &st));
    T(stat("a/b/f/", &st));
    T(stat("a/b/f/..", &st));
    T(stat("a/none/../b/f", &st));
    T(stat("a/b/", &st));
    T(stat("a/b/..", &st));
    T(stat("", &st));
    T(stat(ct_abs("a/b/f"), &st));
    T(stat(ct_abs("a/../a/b//f"), &st));
    memset(name, 'n', sizeof name);
    name[255] = 0;
    F(open(name, O_CREAT | O_WRONLY, 0644));
    T(stat(name, &st));
    name[255] = 'n', name[256] = 0;
    F(open(name, O_CREAT | O_WRONLY, 0644));
    T(stat(name, &st));
    T(mkdir(name, 0755));
    path[0] = 0;
    while (strlen(path) < PATH_MAX - 8) strcat(path, "a/../");
    printf("long path is below the limit: %d\n", strlen(path) < PATH_MAX);
    T(stat(path, &st));
    strcat(path, "a/../a/../a/..");
    printf("long path is below the limit: %d\n", strlen(path) < PATH_MAX);
    T(stat(path, &st));
    symlink("a/b", "s");
    symlink("../a", "a/up");
    symlink("s2", "s1");
    symlink("s1", "s2");
    T(stat("s/f", &st));
    T(stat("s/../up/b/f", &st));
    T(stat("s1", &st));
    T(stat("s1/x", &st));
    T(lstat("s1", &st));
    symlink(ct_abs("a/b/f"), "abs");
    ct_cat("abs");
    OK(symlink("a/b/f", "chain00"));
    for (int i = 1; i <= 41; i++) {
        char from[16], to[16];
        snprintf(from, sizeof from, "chain%02d", i - 1);
        snprintf(to, sizeof to, "chain%02d", i);
        OK(symlink(from, to));
    }
    T(stat("chain39", &st));
    T(stat("chain40", &st));
    T(lstat("chain41", &st));
}
