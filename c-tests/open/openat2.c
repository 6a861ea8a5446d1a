/* openat2: its checks of size, flags and mode, and RESOLVE_BENEATH, IN_ROOT, NO_SYMLINKS. */
#include "ct.h"
#include <linux/openat2.h>

static int openat2(int dir, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve)
{
    struct open_how how = {.flags = flags, .mode = mode, .resolve = resolve};
    return syscall(SYS_openat2, dir, path, &how, sizeof how);
}

static void test(void)
{
    struct open_how how = {.flags = O_RDONLY};
    mkdir("d", 0755);
    mkdir("d/sub", 0755);
    ct_put("d/f", "one");
    ct_put("f", "outer");
    symlink("f", "d/l");
    symlink("../f", "d/out");
    symlink("/f", "d/abs");
    int dir = OK(open("d", O_RDONLY | O_DIRECTORY));
    F(openat2(AT_FDCWD, "f", O_RDONLY, 0, 0));
    F(openat2(dir, "f", O_RDONLY, 0, 0));
    F(openat2(dir, "new", O_CREAT | O_RDWR, 0600, 0));
    ct_stat("d/new");
    F(openat2(dir, "f", O_RDONLY, 0600, 0));
    F(openat2(dir, "f", 1u << 31, 0, 0));
    F(openat2(dir, "f", O_RDONLY, 0, 1 << 20));
    F(openat2(dir, "../f", O_RDONLY, 0, RESOLVE_BENEATH));
    F(openat2(dir, "out", O_RDONLY, 0, RESOLVE_BENEATH));
    F(openat2(dir, "abs", O_RDONLY, 0, RESOLVE_BENEATH));
    F(openat2(dir, "l", O_RDONLY, 0, RESOLVE_BENEATH));
    F(openat2(dir, "sub/../f", O_RDONLY, 0, RESOLVE_BENEATH));
    F(openat2(dir, "abs", O_RDONLY, 0, RESOLVE_IN_ROOT));
    F(openat2(dir, "../f", O_RDONLY, 0, RESOLVE_IN_ROOT));
    F(openat2(dir, "/f", O_RDONLY, 0, RESOLVE_IN_ROOT));
    F(openat2(dir, "l", O_RDONLY, 0, RESOLVE_NO_SYMLINKS));
    F(openat2(dir, "f", O_RDONLY, 0, RESOLVE_NO_SYMLINKS));
    symlink("sub", "d/ls");
    symlink("..", "d/up");
    symlink("../d/f", "d/roundabout");
    symlink("none", "d/dangling");
    F(openat2(dir, "ls", O_RDONLY, 0, RESOLVE_BENEATH));
    F(openat2(dir, "ls/../f", O_RDONLY, 0, RESOLVE_BENEATH));
    F(openat2(dir, "ls/..", O_RDONLY, 0, RESOLVE_BENEATH));
    F(openat2(dir, "ls/../..", O_RDONLY, 0, RESOLVE_BENEATH));
    F(openat2(dir, "up", O_RDONLY, 0, RESOLVE_BENEATH));
    F(openat2(dir, "up/d/f", O_RDONLY, 0, RESOLVE_BENEATH));
    F(openat2(dir, "roundabout", O_RDONLY, 0, RESOLVE_BENEATH));
    F(openat2(dir, "roundabout", O_RDONLY, 0, RESOLVE_IN_ROOT));
    F(openat2(dir, "up/f", O_RDONLY, 0, RESOLVE_IN_ROOT));
    F(openat2(dir, "../../../f", O_RDONLY, 0, RESOLVE_IN_ROOT));
    F(openat2(dir, "/", O_RDONLY, 0, RESOLVE_IN_ROOT));
    F(openat2(dir, "/sub/../../f", O_RDONLY, 0, RESOLVE_IN_ROOT));
    F(openat2(dir, "ls/x", O_RDONLY, 0, RESOLVE_NO_SYMLINKS));
    F(openat2(dir, "l", O_PATH | O_NOFOLLOW, 0, RESOLVE_NO_SYMLINKS));
    F(openat2(dir, "l", O_RDONLY | O_NOFOLLOW, 0, RESOLVE_BENEATH));
    F(openat2(dir, "sub/new", O_CREAT | O_RDWR, 0600, RESOLVE_BENEATH));
    F(openat2(dir, "sub/new", O_CREAT | O_EXCL | O_RDWR, 0600, RESOLVE_BENEATH));
    F(openat2(dir, "ls/new2", O_CREAT | O_RDWR, 0600, RESOLVE_BENEATH));
    F(openat2(dir, "dangling", O_CREAT | O_RDWR, 0600, RESOLVE_BENEATH));
    ct_stat("d/none");
    F(openat2(dir, "f/", O_RDONLY, 0, RESOLVE_BENEATH));
    F(openat2(dir, "f/x", O_RDONLY, 0, RESOLVE_BENEATH));
    F(openat2(dir, "sub/", O_RDONLY, 0, RESOLVE_BENEATH));
    F(openat2(dir, "nothing/x", O_RDONLY, 0, RESOLVE_BENEATH));
    F(openat2(dir, "nothing", O_RDONLY, 0, RESOLVE_BENEATH));
    F(openat2(dir, ".", O_RDONLY, 0, RESOLVE_BENEATH));
    F(openat2(dir, "", O_RDONLY, 0, RESOLVE_BENEATH));
    F(openat2(dir, ct_abs("f"), O_RDONLY, 0, RESOLVE_BENEATH));
    F(openat2(dir, "../f", O_RDONLY, 0, RESOLVE_NO_XDEV));
    F(openat2(dir, "out", O_RDONLY, 0, RESOLVE_NO_XDEV));
    F(openat2(dir, "f", O_RDONLY, 0, RESOLVE_BENEATH | RESOLVE_IN_ROOT));
    char magic[40];
    snprintf(magic, sizeof magic, "/proc/self/fd/%d/f", dir);
    F(openat2(AT_FDCWD, magic, O_RDONLY, 0, 0));
    F(openat2(AT_FDCWD, magic, O_RDONLY, 0, RESOLVE_NO_MAGICLINKS));
    F(openat2(AT_FDCWD, magic, O_RDONLY, 0, RESOLVE_NO_SYMLINKS));
    F(openat2(dir, "f", O_RDONLY, 0, RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS));
    F(openat2(999, "f", O_RDONLY, 0, 0));
    F(syscall(SYS_openat2, dir, "f", &how, 4));
    F(syscall(SYS_openat2, dir, "f", BAD, sizeof how));
    F(syscall(SYS_openat2, dir, BAD, &how, sizeof how));
}
