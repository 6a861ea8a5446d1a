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
    F(openat2(999, "f", O_RDONLY, 0, 0));
    F(syscall(SYS_openat2, dir, "f", &how, 4));
    F(syscall(SYS_openat2, dir, "f", BAD, sizeof how));
    F(syscall(SYS_openat2, dir, BAD, &how, sizeof how));
}
