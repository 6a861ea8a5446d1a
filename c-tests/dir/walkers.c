/* scandir, glob, nftw, fts: the walks of libc over a small tree. */
#include "ct.h"
#include <fts.h>
#include <ftw.h>
#include <glob.h>

static const char *lines[100];
static int count;

static void note(const char *format, ...)
{
    char text[300];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    lines[count++] = strdup(text);
}

static void print_sorted(const char *what)
{
    qsort(lines, count, sizeof *lines, ct_by_name);
    puts(what);
    for (int i = 0; i < count; i++) printf("  %s\n", lines[i]);
    count = 0;
}

static int visit(const char *path, const struct stat *st, int flag, struct FTW *w)
{
    note("%s %c %d level %d base %s", path, flag == FTW_NS ? '-' : ct_type(st->st_mode), flag, w->level, path + w->base);
    return 0;
}

static int visible(const struct dirent *e) { return e->d_name[0] != '.'; }

static void test(void)
{
    struct dirent **list;
    glob_t g;
    mkdir("t", 0755);
    mkdir("t/a", 0755);
    mkdir("t/a/b", 0755);
    mkdir("t/c", 0755);
    ct_put("t/a/one.c", "1");
    ct_put("t/a/two.h", "2");
    ct_put("t/a/b/three.c", "3");
    ct_put("t/.hidden", "4");
    symlink("a", "t/link");
    symlink("nowhere", "t/dang");
    int n = T(scandir("t", &list, visible, alphasort));
    for (int i = 0; i < n; i++) printf("  %s\n", list[i]->d_name);
    T(scandir("none", &list, visible, alphasort));
    const char *patterns[] = {"t/*", "t/*/*.c", "t/.*n", "t/[ac]", "t/none*", "*/*/*/three.?", "t/*/", "t/{a,c}/*.h"};
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        printf("glob %s: %d\n", patterns[i], glob(patterns[i], GLOB_BRACE, NULL, &g));
        for (size_t k = 0; k < g.gl_pathc; k++) printf("  %s\n", g.gl_pathv[k]);
        globfree(&g);
    }
    T(nftw("t", visit, 10, FTW_PHYS));
    print_sorted("nftw, physical");
    T(nftw("t/link", visit, 2, 0));
    print_sorted("nftw, following");
    T(nftw("t", visit, 10, FTW_DEPTH | FTW_CHDIR | FTW_PHYS));
    print_sorted("nftw, depth first with chdir");
    YES(!strcmp(getcwd((char[PATH_MAX]){0}, PATH_MAX), ct_dir));
    T(nftw("none", visit, 10, 0));
    char *roots[] = {"t", NULL};
    FTS *fts = P(fts_open(roots, FTS_PHYSICAL, NULL));
    for (FTSENT *e; (e = fts_read(fts));)
        note("%s info %d level %d size %d", e->fts_path, e->fts_info, e->fts_level,
             e->fts_info == FTS_F ? (int)e->fts_statp->st_size : 0);
    T(fts_close(fts));
    print_sorted("fts");
}
