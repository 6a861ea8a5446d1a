/* inotify_add_watch and inotify_rm_watch themselves: numbers, flags, errnos. */
#include "events.h"

static void test(void)
{
    int in = OK(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    OK(mkdir("d", 0755));
    ct_put("f", "f");
    OK(symlink("f", "to-f"));
    OK(symlink("d", "to-d"));
    OK(symlink("none", "to-none"));
    T(inotify_add_watch(in, "none", IN_MODIFY));
    T(inotify_add_watch(in, "to-none", IN_MODIFY));
    T(inotify_add_watch(in, "f/x", IN_MODIFY));
    T(inotify_add_watch(in, "", IN_MODIFY));
    T(inotify_add_watch(in, BAD, IN_MODIFY));
    T(inotify_add_watch(in, "f", 0));
    T(inotify_add_watch(in, "f", IN_ONLYDIR));
    T(inotify_add_watch(in, "f", IN_MODIFY | IN_ONLYDIR));
    T(inotify_add_watch(in, "none", IN_MODIFY | IN_ONLYDIR));
    T(inotify_add_watch(in, "f", IN_MODIFY | IN_MASK_ADD | IN_MASK_CREATE));
    T(inotify_add_watch(-1, "f", IN_MODIFY));
    T(inotify_add_watch(-1, "none", IN_MODIFY));
    T(inotify_add_watch(1, "none", IN_MODIFY));
    int file = OK(open("f", O_RDWR));
    T(inotify_add_watch(file, "f", IN_MODIFY));
    T(inotify_rm_watch(file, 1));
    T(inotify_rm_watch(in, 1));
    T(inotify_rm_watch(-1, 1));

    T(ev_watch(in, "f", IN_MODIFY, "f"));
    T(ev_watch(in, "d", IN_CREATE | IN_ONLYDIR, "d"));
    T(ev_watch(in, "to-f", IN_MODIFY, NULL));
    T(ev_watch(in, "to-d", IN_CREATE, NULL));
    T(ev_watch(in, "to-f", IN_ATTRIB | IN_DONT_FOLLOW, "to-f"));
    T(ev_watch(in, "to-d", IN_ATTRIB | IN_DONT_FOLLOW | IN_ONLYDIR, "to-d"));
    T(ev_watch(in, "f", IN_MODIFY | IN_MASK_CREATE, NULL));
    EV(write(file, "x", 1));
    EV(fchmod(file, 0640));
    T(ev_watch(in, "f", IN_ATTRIB | IN_MASK_ADD, NULL));
    EV(write(file, "x", 1));
    EV(fchmod(file, 0600));
    T(ev_watch(in, "f", IN_ATTRIB, NULL));
    EV(write(file, "x", 1));
    EV(fchmod(file, 0644));
    EV(mkdir("d/x", 0700));
    EV(lchown("to-f", getuid(), getgid()));
    T(inotify_rm_watch(in, 1));
    ev_print(in, "removed");
    EV(fchmod(file, 0640));
    T(inotify_rm_watch(in, 1));
    T(ev_watch(in, "f", IN_MODIFY | IN_ONESHOT, "f again"));
    EV(write(file, "x", 1));
    EV(write(file, "x", 1));
    T(ev_watch(in, "f", IN_ALL_EVENTS, "f last"));
    EV(unlink("f"));
    EV(close(file));
    EV(unlink("to-f"));
    T(ev_watch(in, "d", IN_ALL_EVENTS | IN_EXCL_UNLINK, NULL));
    EV(file = open("d/f", O_CREAT | O_RDWR, 0600));
    EV(unlink("d/f"));
    EV(close(file));
    EV(rmdir("d/x"));
    EV(rmdir("d"));
    if (geteuid() == 0) {
        OK(mkdir("secret", 0711));
        OK(chmod(".", 0755));
        OK(setresuid(CT_NOBODY, CT_NOBODY, 0));
        T(inotify_add_watch(in, "secret", IN_CREATE));
        OK(setresuid(0, 0, 0));
    } else
        puts("inotify_add_watch(in, \"secret\", IN_CREATE) = -1 EACCES");
    OK(close(in));
}
