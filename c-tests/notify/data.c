/* What watches say of opens, transfers and listings of every kind, by whichever name or descriptor. */
#include "events.h"

static void test(void)
{
    int in = OK(inotify_init1(IN_CLOEXEC));
    char text[16];
    int fd, to, p[2];
    OK(mkdir("d", 0755));
    OK(mkdir("d/sub", 0755));
    ct_put("d/f", "some text");
    ct_put("d/g", "");
    OK(link("d/f", "d/hard"));
    OK(symlink("f", "d/link"));
    OK(symlink("later", "d/dangling"));
    OK(pipe(p));
    ev_watch(in, "d", IN_ALL_EVENTS, "d");

    EV(fd = open("d/link", O_RDONLY));
    EV(close(fd));
    EV(fd = open("d/hard", O_RDONLY));
    EV(read(fd, text, 1));
    EV(readv(fd, &(struct iovec){text, 2}, 1));
    EV(close(fd));
    EV(fd = open("d/f", O_RDONLY));
    EV(read(fd, text, 1));
    EV(to = dup(fd));
    EV(close(fd));
    EV(close(to));
    EV(readlink("d/link", text, sizeof text));
    EV(chmod("d/link", 0600));
    EV(truncate("d/link", 9));
    EV(lchown("d/link", getuid(), getgid()));
    EV(fd = open("d/dangling", O_CREAT | O_WRONLY, 0600));
    EV(close(fd));
    EV(unlink("d/later"));
    EV(fd = open("d/f", O_RDWR));
    EV(fallocate(fd, 0, 0, 100));
    EV(ftruncate(fd, 9));
    EV(pwrite(fd, "x", 1, 5));
    EV(writev(fd, &(struct iovec){"vector", 6}, 1));
    EV(to = open("d/g", O_RDWR));
    EV(sendfile(to, fd, &(off_t){0}, 4));
    EV(copy_file_range(fd, &(off_t){0}, to, NULL, 4, 0));
    EV(splice(fd, &(off_t){0}, p[1], NULL, 4, 0));
    EV(splice(p[0], NULL, to, NULL, 4, 0));
    EV(fsync(to));
    EV(lseek(to, 0, SEEK_SET));
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, to, 0);
    ev_print(in, "mmap");
    memcpy(memory, "abc", 3);
    EV(msync(memory, 4096, MS_SYNC));
    EV(munmap(memory, 4096));
    EV(close(to));
    EV(close(fd));
    DIR *d = opendir("d");
    ev_print(in, "opendir");
    while (readdir(d)) {}
    ev_print(in, "readdir");
    EV(closedir(d));
    EV(fd = open("d/sub", O_RDONLY | O_DIRECTORY));
    EV(mkdirat(fd, "x", 0700));
    EV(to = openat(fd, "../f", O_WRONLY));
    EV(close(to));
    EV(unlinkat(fd, "x", AT_REMOVEDIR));
    EV(close(fd));
    int sock = OK(socket(AF_UNIX, SOCK_STREAM, 0));
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "d/s"};
    EV(bind(sock, (void *)&address, sizeof address));
    EV(unlink("d/s"));
    char made[] = "d/XXXXXX";
    fd = mkstemp(made);
    char buffer[4096];
    printf("mkstemp: %d\n", read(in, buffer, sizeof buffer) > 0);
    unlink(made);
    close(fd);
    printf("its end: %d\n", read(in, buffer, sizeof buffer) > 0);
    OK(close(in));

    in = OK(inotify_init1(IN_CLOEXEC));
    ev_watch(in, "d", IN_MODIFY | IN_CREATE, "d");
    EV(close(open("d/f", O_WRONLY | O_TRUNC)));
    EV(close(open("d/f", O_WRONLY | O_TRUNC)));
    EV(close(open("d/t", O_WRONLY | O_CREAT | O_TRUNC, 0600)));
    OK(close(in));
}
