/* Names are bytes: blanks, newlines, control bytes, high bytes, a leading dash, 255 bytes, almost-dots. */
#include "ct.h"

static void test(void)
{
    char longest[260];
    memset(longest, '\xe4', 255);
    longest[255] = 0;
    const char *names[] = {" ", "a b", "new\nline", "\x01", "\x7f", "\xff\xfe", "-dash", "...", ".hid", "*", "\\", "\"", "a:b",
                           "\xc3\xa4", "~", "$HOME", "%d", longest};
    enum { N = sizeof names / sizeof *names };
    for (int i = 0; i < N; i++) {
        char text[16];
        snprintf(text, sizeof text, "content %d", i);
        ct_put(names[i], text);
    }
    int found = 0, entries = 0;
    DIR *d = OK(opendir("."));
    for (struct dirent *e; (e = readdir(d)); entries++)
        for (int i = 0; i < N; i++) found += !strcmp(e->d_name, names[i]);
    closedir(d);
    printf("%d of %d found, %d entries\n", found, N, entries);
    ct_cat("new\nline");
    ct_cat("\xff\xfe");
    ct_cat("...");
    for (int i = 0; i < N; i++) {
        char to[300];
        snprintf(to, sizeof to, "r%.250s", names[i]);
        if (rename(names[i], to) < 0) printf("%d: %s\n", i, ct_errname(errno));
        else if (unlink(to) < 0) printf("%d: %s\n", i, ct_errname(errno));
    }
    ct_ls(".");
    ct_put("Case", "1");
    ct_put("case", "2");
    ct_ls(".");
}
