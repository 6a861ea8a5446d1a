/* Set-id and sticky bits: what write, truncate, chown and fallocate take away, by the owner, by others and by root. */
#include "ct.h"

static void told(const char *what, const char *path)
{
    struct stat st;
    if (lstat(path, &st) < 0) { printf("%s: %s %s\n", what, path, ct_errname(errno)); return; }
    printf("%s: %s %04o\n", what, path, st.st_mode & 07777);
}

static void each(const char *who, mode_t mode, uid_t uid, gid_t gid, int as_nobody)
{
    static const char *const WAYS[] = {"write", "ftruncate", "truncate", "O_TRUNC", "chown same", "chown -1", "lchown", "fallocate", "punch",
                                       "mmap", "append", "pwritev", "copy_file_range"};
    for (unsigned way = 0; way < sizeof WAYS / sizeof *WAYS; way++) {
        char label[100];
        snprintf(label, sizeof label, "%s %04o %s", who, mode, WAYS[way]);
        unlink("f");
        ct_put("f", "some data");
        OK(chown("f", uid, gid));
        OK(chmod("f", mode));
        CHILD(label) {
            if (as_nobody && way == 9) _exit(0);
            if (as_nobody) ct_become_nobody();
            int fd = way == 2 || way == 3 || (way >= 4 && way <= 6) ? -1 : OK(open("f", O_RDWR | (way == 10 ? O_APPEND : 0)));
            struct iovec one = {"x", 1};
            switch (way) {
            case 0: T(write(fd, "x", 1)); break;
            case 1: T(ftruncate(fd, 3)); break;
            case 2: T(truncate("f", 3)); break;
            case 3: F(open("f", O_WRONLY | O_TRUNC)); break;
            case 4: T(chown("f", uid, gid)); break;
            case 5: T(chown("f", -1, -1)); break;
            case 6: T(lchown("f", -1, gid)); break;
            case 7: T(fallocate(fd, 0, 0, 5000)); break;
            case 8: T(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 5)); break;
            case 9: {
                char *m = OK(mmap(NULL, 9, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
                T(munmap(m, 9));
                break;
            }
            case 10: T(write(fd, "x", 1)); break;
            case 11: T(pwritev(fd, &one, 1, 2)); break;
            case 12: {
                off64_t from = 0, to = 6;
                T(copy_file_range(fd, &from, fd, &to, 2, 0));
                break;
            }
            }
        }
        told(label, "f");
    }
}

static void test(void)
{
    if (geteuid() != 0) {
        puts("not root: nothing to compare");
        return;
    }
    chmod(".", 0777);
    each("owner", 06777, CT_NOBODY, CT_NOBODY, 1);
    each("owner", 02767, CT_NOBODY, CT_NOBODY, 1);
    each("owner of another's group", 06777, CT_NOBODY, 0, 1);
    each("other", 06777, 0, 0, 1);
    each("root", 06777, CT_NOBODY, CT_NOBODY, 0);
    each("root", 02767, 0, 0, 0);
    ct_put("f", "x");
    OK(chown("f", CT_NOBODY, 0));
    CHILD("chmod by an owner outside the group") {
        ct_become_nobody();
        T(chmod("f", 06755));
        told("chmod", "f");
        T(chmod("f", 01644));
        told("chmod", "f");
        T(chown("f", CT_NOBODY, CT_NOBODY));
        T(chown("f", 0, -1));
        T(chown("f", -1, 0));
        T(chmod("f", 06755));
        told("chmod", "f");
    }
    OK(mkdir("d", 0777));
    OK(chmod("d", 06777));
    OK(chown("d", CT_NOBODY, CT_NOBODY));
    told("chown of a directory", "d");
    CHILD("in a directory of root's group") {
        OK(chown("d", 0, 0));
        OK(chmod("d", 03777));
        ct_become_nobody();
        F(open("d/f", O_CREAT | O_RDWR, 06777));
        told("create", "d/f");
        T(mkdir("d/s", 0755));
        told("mkdir", "d/s");
        T(mknod("d/p", S_IFIFO | 06755, 0));
        told("mknod", "d/p");
        T(chmod("d/s", 0755));
        told("chmod", "d/s");
        T(symlink("x", "d/l"));
        T(lchown("d/l", -1, CT_NOBODY));
    }
}
