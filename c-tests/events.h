/* events.h: prints what an inotify instance has to say, for the programs of this family.
 *
 * Watches have names, given by watch(); cookies are printed as their pairs are numbered.
 */
#ifndef EVENTS_H
#define EVENTS_H
#include "ct.h"
#include <sys/inotify.h>

#define WATCHES 64
static const char *ev_names[WATCHES];

static inline void ev_mask(uint32_t mask)
{
    static const struct { uint32_t bit; const char *name; } bits[] = {
        {IN_ACCESS, "ACCESS"}, {IN_MODIFY, "MODIFY"}, {IN_ATTRIB, "ATTRIB"}, {IN_CLOSE_WRITE, "CLOSE_WRITE"},
        {IN_CLOSE_NOWRITE, "CLOSE_NOWRITE"}, {IN_OPEN, "OPEN"}, {IN_MOVED_FROM, "MOVED_FROM"}, {IN_MOVED_TO, "MOVED_TO"},
        {IN_CREATE, "CREATE"}, {IN_DELETE, "DELETE"}, {IN_DELETE_SELF, "DELETE_SELF"}, {IN_MOVE_SELF, "MOVE_SELF"},
        {IN_UNMOUNT, "UNMOUNT"}, {IN_Q_OVERFLOW, "Q_OVERFLOW"}, {IN_IGNORED, "IGNORED"}, {IN_ISDIR, "ISDIR"},
    };
    const char *separator = "";
    for (size_t i = 0; i < sizeof bits / sizeof *bits; i++)
        if (mask & bits[i].bit) {
            printf("%s%s", separator, bits[i].name);
            separator = "|";
            mask &= ~bits[i].bit;
        }
    if (mask) printf("%s%#x", separator, mask);
}

/* Prints and takes away all events that wait. */
static inline void ev_print(int instance, const char *after)
{
    static char buffer[1 << 16] __attribute__((aligned(8)));
    static uint32_t cookies[256];
    static int pairs;
    int flags = fcntl(instance, F_GETFL);
    fcntl(instance, F_SETFL, flags | O_NONBLOCK);
    printf("%s:\n", after);
    ssize_t n;
    while ((n = read(instance, buffer, sizeof buffer)) > 0)
        for (char *at = buffer; at < buffer + n;) {
            struct inotify_event *e = (void *)at;
            printf("    %s ", e->wd < 0 || e->wd >= WATCHES || !ev_names[e->wd] ? "?" : ev_names[e->wd]);
            ev_mask(e->mask);
            if (e->len) ct_bytes(" ", e->name, strlen(e->name));
            else puts("");
            if (e->cookie) {
                int pair = 0;
                while (pair < pairs && cookies[pair] != e->cookie) pair++;
                if (pair == pairs && pairs < 256) cookies[pairs++] = e->cookie;
                printf("        cookie %d\n", pair);
            }
            at += sizeof *e + e->len;
        }
    fcntl(instance, F_SETFL, flags);
}

/* Takes away all events that wait, and prints of which kinds they were. */
static inline void ev_kinds(int instance, const char *after)
{
    char buffer[1 << 12] __attribute__((aligned(8)));
    int flags = fcntl(instance, F_GETFL);
    fcntl(instance, F_SETFL, flags | O_NONBLOCK);
    uint32_t kinds = 0;
    ssize_t n;
    while ((n = read(instance, buffer, sizeof buffer)) > 0)
        for (char *at = buffer; at < buffer + n; at += sizeof(struct inotify_event) + ((struct inotify_event *)at)->len)
            kinds |= ((struct inotify_event *)at)->mask;
    fcntl(instance, F_SETFL, flags);
    printf("%s: ", after);
    ev_mask(kinds);
    puts("");
}

/* Watches PATH, and calls the watch NAME from then on. */
static inline int ev_watch(int instance, const char *path, uint32_t mask, const char *name)
{
    int wd = inotify_add_watch(instance, path, mask);
    if (wd >= 0 && wd < WATCHES && name) ev_names[wd] = name;
    return wd;
}

/* Does a thing that must work, then prints what was said of it. */
#define EV(call) do { if ((long)(call) == -1) printf("%s: %s\n", #call, ct_errname(errno)); ev_print(in, #call); } while (0)
#endif
