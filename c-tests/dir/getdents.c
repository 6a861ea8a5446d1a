/* getdents64, raw: record shape, small buffers, two descriptors, an offset shared by dup and fork. */
#include "ct.h"

struct entry {
    uint64_t ino;
    int64_t off;
    unsigned short length;
    unsigned char type;
    char name[];
};

static int count(int fd, size_t size)
{
    char *buffer = malloc(size);
    int n = 0;
    for (long r; (r = syscall(SYS_getdents64, fd, buffer, size)) > 0;)
        for (long at = 0; at < r; n++) {
            struct entry *e = (struct entry *)(buffer + at);
            if (e->length % 8 || e->length < 19 + strlen(e->name) + 1 || !e->ino) puts("odd record");
            at += e->length;
        }
    free(buffer);
    return n;
}

static void test(void)
{
    char name[260], small[8];
    mkdir("d", 0755);
    for (int i = 0; i < 300; i++) {
        snprintf(name, sizeof name, "d/%d", i);
        close(OK(creat(name, 0644)));
    }
    int fd = OK(open("d", O_RDONLY | O_DIRECTORY));
    T(syscall(SYS_getdents64, fd, small, sizeof small));
    printf("%d entries in 32 KiB buffers\n", count(fd, 32768));
    printf("%d entries at the end\n", count(fd, 32768));
    T(lseek(fd, 0, SEEK_SET));
    printf("%d entries in 64 byte buffers\n", count(fd, 64));
    T(lseek(fd, 0, SEEK_SET));
    int two = dup(fd), own = OK(open("d", O_RDONLY));
    char buffer[1024];
    YES(syscall(SYS_getdents64, fd, buffer, sizeof buffer) > 0);
    int rest = count(two, 4096);
    printf("a duplicate goes on: %d, then nothing: %d\n", rest > 100 && rest < 302, count(fd, 4096));
    printf("another description: %d\n", count(own, 4096));
    T(lseek(own, 0, SEEK_SET));
    CHILD("child") { printf("in the child: %d\n", count(own, 4096)); }
    printf("then in the parent: %d\n", count(own, 4096));
    int file = OK(open("d/1", O_RDONLY));
    T(syscall(SYS_getdents64, file, buffer, sizeof buffer));
    T(syscall(SYS_getdents64, -1, buffer, sizeof buffer));
    mkdir("gone", 0755);
    fd = OK(open("gone", O_RDONLY));
    T(rmdir("gone"));
    T(syscall(SYS_getdents64, fd, buffer, sizeof buffer));
}
