/* What a watch of a directory says of names that come, go and move, within it and across its edge. */
#include "events.h"

static void test(void)
{
    int in = OK(inotify_init1(IN_CLOEXEC));
    OK(mkdir("d", 0755));
    OK(mkdir("e", 0755));
    OK(mkdir("d/old-dir", 0755));
    ct_put("d/old", "old");
    ct_put("e/outside", "outside");
    uint32_t names = IN_CREATE | IN_DELETE | IN_MOVE | IN_DELETE_SELF | IN_MOVE_SELF;
    YES(ev_watch(in, "d", names, "d") == 1);
    YES(ev_watch(in, "d/../d", names, "d") == 1);

    EV(close(OK(open("d/new", O_CREAT | O_EXCL | O_WRONLY, 0644))));
    EV(close(OK(open("d/new", O_CREAT | O_RDWR, 0644))));
    EV(mkdir("d/dir", 0700));
    EV(symlink("nowhere", "d/link"));
    EV(mknod("d/fifo", S_IFIFO | 0600, 0));
    EV(link("d/old", "d/hard"));
    EV(rename("d/new", "d/newer"));
    EV(rename("d/dir", "d/other-dir"));
    EV(rename("d/newer", "d/old"));
    EV(rename("d/old", "e/gone"));
    EV(rename("e/outside", "d/come"));
    EV(rename("d/old-dir", "e/gone-dir"));
    EV(rename("e/gone-dir", "d/come-dir"));
    EV(rename("d/come", "d/come"));
    ct_put("d/a", "a");
    OK(link("d/a", "d/b"));
    ev_print(in, "a and b");
    EV(rename("d/a", "d/b"));
    EV(unlink("d/b"));
    EV(unlink("d/a"));
    EV(renameat2(AT_FDCWD, "d/come", AT_FDCWD, "d/come-dir", RENAME_EXCHANGE));
    EV(renameat2(AT_FDCWD, "d/come", AT_FDCWD, "e/gone", RENAME_EXCHANGE));
    EV(renameat2(AT_FDCWD, "d/come", AT_FDCWD, "d/hard", RENAME_NOREPLACE));
    EV(rmdir("d/other-dir"));
    EV(rmdir("d/other-dir"));
    EV(unlink("d/link"));
    EV(unlink("d/fifo"));
    EV(unlink("d/hard"));
    EV(unlink("d/come"));
    EV(unlink("d/come-dir"));
    EV(rmdir("d/come"));
    char name[256];
    memset(name, 'x', 255);
    name[255] = 0;
    OK(chdir("d"));
    EV(mkdir(name, 0700));
    EV(rmdir(name));
    for (int c = 1; c < 256; c++)
        if (c != '/' && c != '.') {
            char odd[] = {(char)c, 0};
            OK(mkdir(odd, 0700));
            OK(rmdir(odd));
        }
    ev_print(in, "every byte");
    OK(chdir(".."));
    EV(rename("d", "f"));
    EV(mkdir("f/inside", 0700));
    EV(rename("f", "d"));
    EV(rmdir("d/inside"));
    EV(rmdir("d"));
    EV(mkdir("d", 0700));
    OK(close(in));
}
