/* Several processes change one watched directory at the same time: what is said makes sense in the order in which it is
 * said, and everything is said. */
#include "events.h"

enum { PROCESSES = 4, ROUNDS = 150, NAMES = 6 };

static void change(int number)
{
    unsigned random = number * 7919 + 1;
    for (int round = 0; round < ROUNDS; round++) {
        char a[32], b[32];
        random = random * 1664525u + 1013904223u;
        snprintf(a, sizeof a, "d/%u", (random >> 20) % NAMES);
        snprintf(b, sizeof b, "d/%u", (random >> 24) % NAMES);
        switch (random >> 16 & 3) {
        case 0: close(open(a, O_CREAT | O_EXCL | O_WRONLY, 0600)); break;
        case 1: unlink(a); break;
        default: rename(a, b);
        }
    }
}

static void test(void)
{
    int in = OK(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    OK(mkdir("d", 0755));
    OK(inotify_add_watch(in, "d", IN_CREATE | IN_DELETE | IN_MOVE));
    pid_t children[PROCESSES];
    for (int n = 0; n < PROCESSES; n++)
        if ((children[n] = ct_fork()) == 0) {
            change(n);
            _exit(0);
        }
    for (int n = 0; n < PROCESSES; n++) ct_wait("one", children[n]);
    static char buffer[1 << 20] __attribute__((aligned(8)));
    int there[NAMES] = {0}, wrong = 0, events = 0;
    uint32_t moved = 0;
    ssize_t n;
    while ((n = read(in, buffer, sizeof buffer)) > 0)
        for (char *at = buffer; at < buffer + n;) {
            struct inotify_event *e = (void *)at;
            int name = atoi(e->name);
            wrong += name < 0 || name >= NAMES || (moved && (e->mask != IN_MOVED_TO || e->cookie != moved));
            moved = 0;
            switch (e->mask) {
            case IN_CREATE: wrong += there[name], there[name] = 1; break;
            case IN_DELETE: wrong += !there[name], there[name] = 0; break;
            case IN_MOVED_FROM: wrong += !there[name], there[name] = 0, moved = e->cookie; break;
            case IN_MOVED_TO: there[name] = 1; break;
            default: wrong++;
            }
            events++;
            at += sizeof *e + e->len;
        }
    YES(events > 100);
    printf("wrong: %d\n", wrong);
    for (int name = 0; name < NAMES; name++) {
        char path[32];
        snprintf(path, sizeof path, "d/%d", name);
        YES((access(path, F_OK) == 0) == there[name]);
    }
    OK(close(in));
}
