/* Directories moved against each other by three processes: no loop arises, nothing is lost, counts agree. */
#include "ct.h"

enum { DIRS = 8, MOVERS = 3, ROUNDS = 60 };

static int count(const char *path, int depth, int *links_wrong)
{
    struct stat st;
    int n = 0, subdirs = 0;
    if (depth > DIRS + 1) return 1000;
    DIR *d = opendir(path);
    if (!d) return 1000;
    for (struct dirent *e; (e = readdir(d));) {
        char below[PATH_MAX];
        if (e->d_name[0] == '.') continue;
        if ((size_t)snprintf(below, sizeof below, "%s/%s", path, e->d_name) >= sizeof below) return 1000;
        if (e->d_name[0] == 'd') {
            subdirs++;
            n += 1 + count(below, depth + 1, links_wrong);
        } else n += 100;
    }
    closedir(d);
    if (stat(path, &st) < 0 || st.st_nlink != 2u + subdirs) ++*links_wrong;
    return n;
}

static int find(const char *root, const char *name, char *path, size_t size, int depth)
{
    DIR *d = depth > DIRS ? NULL : opendir(root);
    if (!d) return 0;
    for (struct dirent *e; (e = readdir(d));) {
        char below[1000];
        if (e->d_name[0] != 'd' || (size_t)snprintf(below, sizeof below, "%.700s/%.200s", root, e->d_name) >= sizeof below) continue;
        if (!strcmp(e->d_name, name)) {
            snprintf(path, size, "%s", below);
            closedir(d);
            return 1;
        }
        if (find(below, name, path, size, depth + 1)) {
            closedir(d);
            return 1;
        }
    }
    closedir(d);
    return 0;
}

static void mover(unsigned seed)
{
    char from[1000], into[1000], to[1100], a[8], b[8];
    for (int i = 0; i < ROUNDS; i++) {
        seed = seed * 1103515245 + 12345;
        snprintf(a, sizeof a, "d%d", (seed >> 8) % DIRS);
        snprintf(b, sizeof b, "d%d", (seed >> 16) % DIRS);
        if (!find("top", a, from, sizeof from, 0)) continue;
        if ((seed >> 24) % 4 == 0) snprintf(into, sizeof into, "top");
        else if (!find("top", b, into, sizeof into, 0)) continue;
        snprintf(to, sizeof to, "%s/%s", into, a);
        if (rename(from, to) < 0 && errno != ENOENT && errno != EINVAL && errno != ENOTEMPTY && errno != ENOTDIR) {
            printf("rename: %s\n", ct_errname(errno));
            _exit(1);
        }
    }
}

static void test(void)
{
    char path[40];
    pid_t pids[MOVERS];
    OK(mkdir("top", 0755));
    for (int i = 0; i < DIRS; i++) {
        snprintf(path, sizeof path, "top/d%d", i);
        OK(mkdir(path, 0755));
        snprintf(path, sizeof path, "top/d%d/file", i);
        ct_put(path, "x");
    }
    for (int m = 0; m < MOVERS; m++)
        if ((pids[m] = ct_fork()) == 0) {
            mover(m + 7);
            _exit(0);
        }
    for (int m = 0; m < MOVERS; m++) ct_wait("mover", pids[m]);
    int links_wrong = 0;
    printf("directories + 100 x files: %d, wrong link counts: %d\n", count("top", 0, &links_wrong), links_wrong);
}
