/* fopen: every mode, what it makes, keeps and refuses. */
#include "ct.h"

static void one(const char *mode)
{
    char text[32] = "";
    ct_put("f", "0123456789");
    errno = 0;
    FILE *f = fopen("f", mode);
    printf("%s: %s", mode, f ? "open" : ct_errname(errno));
    if (f) {
        printf(", at %ld", ftell(f));
        size_t r = fread(text, 1, 4, f);
        printf(", read %zu%s", r, ferror(f) ? " error" : "");
        clearerr(f);
        fseek(f, 0, SEEK_CUR);
        int w = fputs("XY", f) >= 0 && fflush(f) == 0;
        printf(", write %d, close %d", w, fclose(f));
    }
    puts("");
    ct_cat("f");
    unlink("f");
    errno = 0;
    f = fopen("f", mode);
    printf("%s, missing: %s\n", mode, f ? "open" : ct_errname(errno));
    if (f) fclose(f);
    ct_stat("f");
}

static void test(void)
{
    const char *modes[] = {"r", "r+", "w", "w+", "a", "a+", "rb", "wx", "w+x", "re", "z"};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) one(modes[i]);
    FILE *f = OK(fopen("e", "we"));
    T(fcntl(fileno(f), F_GETFD));
    fclose(f);
    mkdir("d", 0755);
    P(fopen("d", "w"));
    f = P(fopen("d", "r"));
    printf("reading a directory: %d\n", fgetc(f));
    fclose(f);
    P(fopen("none/x", "w"));
}
