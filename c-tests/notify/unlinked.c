/* What watches say of files that are renamed, unlinked or overwritten while they are open, and were opened before. */
#include "events.h"

static void test(void)
{
    int in = OK(inotify_init1(IN_CLOEXEC));
    int before, fd;
    char byte;
    OK(mkdir("d", 0755));
    OK(mkdir("e", 0755));
    OK(mkdir("d/sub", 0755));
    ct_put("d/f", "f");
    ct_put("d/g", "g");
    ct_put("d/h", "h");
    before = OK(open("d/f", O_RDWR));
    int again = OK(open("d/f", O_RDONLY)), directory = OK(open("d/sub", O_RDONLY)), itself = OK(open("d", O_RDONLY));
    ev_watch(in, "d", IN_ALL_EVENTS, "d");
    ev_watch(in, "d/f", IN_ALL_EVENTS, "f");
    EV(write(before, "x", 1));
    EV(rename("d/f", "d/renamed"));
    EV(write(before, "x", 1));
    EV(pread(again, &byte, 1, 0));
    EV(close(again));
    EV(fchmod(before, 0600));
    EV(unlink("d/renamed"));
    EV(write(before, "x", 1));
    EV(pread(before, &byte, 1, 0));
    EV(fchmod(before, 0640));
    EV(ftruncate(before, 0));
    EV(close(before));
    EV(close(directory));
    EV(close(itself));
    EV(fd = open("d/h", O_WRONLY));
    EV(rename("d/g", "d/h"));
    EV(write(fd, "x", 1));
    EV(close(fd));
    EV(directory = open("d/sub", O_RDONLY));
    EV(rmdir("d/sub"));
    EV(close(directory));
    EV(fd = open("d/h", O_WRONLY));
    EV(rename("d/h", "e/h"));
    EV(write(fd, "x", 1));
    EV(close(fd));
    OK(close(in));
}
