/* statx: the mask, the flags, and agreement with stat. */
#include "ct.h"

static void test(void)
{
    struct statx x;
    struct stat st;
    ct_put("f", "12345");
    symlink("f", "l");
    OK(stat("f", &st));
    T(statx(AT_FDCWD, "f", 0, STATX_BASIC_STATS, &x));
    YES((x.stx_mask & STATX_BASIC_STATS) == STATX_BASIC_STATS);
    YES(x.stx_ino == st.st_ino && x.stx_size == 5 && x.stx_mode == st.st_mode && x.stx_nlink == 1);
    YES(x.stx_uid == st.st_uid && x.stx_gid == st.st_gid && x.stx_blocks == (uint64_t)st.st_blocks);
    YES(makedev(x.stx_dev_major, x.stx_dev_minor) == st.st_dev);
    YES(x.stx_mtime.tv_sec == st.st_mtim.tv_sec && x.stx_mtime.tv_nsec == (uint32_t)st.st_mtim.tv_nsec);
    YES(x.stx_blksize == (uint32_t)st.st_blksize);
    T(statx(AT_FDCWD, "l", AT_SYMLINK_NOFOLLOW, STATX_TYPE | STATX_SIZE, &x));
    YES(S_ISLNK(x.stx_mode) && x.stx_size == 1);
    T(statx(AT_FDCWD, "l", AT_STATX_FORCE_SYNC, STATX_TYPE, &x));
    YES(S_ISREG(x.stx_mode));
    T(statx(AT_FDCWD, "f", AT_STATX_DONT_SYNC, STATX_SIZE, &x));
    T(statx(AT_FDCWD, "f", AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC, STATX_SIZE, &x));
    T(statx(AT_FDCWD, "f", 1 << 30, STATX_SIZE, &x));
    T(statx(AT_FDCWD, "f", 0, STATX__RESERVED, &x));
    T(statx(AT_FDCWD, "none", 0, STATX_SIZE, &x));
    T(statx(AT_FDCWD, "f/x", 0, STATX_SIZE, &x));
    int fd = OK(open("f", O_RDONLY));
    T(statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &x));
    YES(x.stx_ino == st.st_ino);
    T(statx(fd, "", 0, STATX_BASIC_STATS, &x));
    T(statx(fd, "x", 0, STATX_BASIC_STATS, &x));
    T(statx(999, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &x));
    T(syscall(SYS_statx, AT_FDCWD, "f", 0, STATX_SIZE, BAD));
}
