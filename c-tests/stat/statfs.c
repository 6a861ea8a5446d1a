/* statfs, fstatfs, statvfs: plausible and consistent figures, and the errnos. */
#include "ct.h"

static void test(void)
{
    struct statfs a, b;
    struct statvfs v;
    ct_put("f", "x");
    T(statfs(".", &a));
    YES(a.f_bsize >= 512 && a.f_namelen == 255);
    YES(a.f_blocks > 0 && a.f_bfree <= a.f_blocks && a.f_bavail <= a.f_bfree);
    YES(a.f_files > 0 && a.f_ffree <= a.f_files);
    int fd = OK(open("f", O_RDONLY));
    T(fstatfs(fd, &b));
    YES(a.f_type == b.f_type && a.f_blocks == b.f_blocks && a.f_bsize == b.f_bsize);
    YES(!memcmp(&a.f_fsid, &b.f_fsid, sizeof a.f_fsid));
    T(statvfs("f", &v));
    YES(v.f_frsize > 0 && v.f_blocks == a.f_blocks && v.f_namemax == 255);
    T(fstatvfs(fd, &v));
    YES(!(v.f_flag & ST_RDONLY));
    T(statfs("none", &a));
    T(statfs("f/x", &a));
    T(fstatfs(-1, &a));
    T(statfs("f", BAD));
    T(pathconf(".", _PC_NAME_MAX));
    T(fpathconf(fd, _PC_NAME_MAX));
    T(pathconf(".", _PC_PATH_MAX));
}
