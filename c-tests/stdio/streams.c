/* freopen, fdopen, fileno, fcloseall-like ends, tmpfile, perror into a file, stdout redirected and restored. */
#include "ct.h"

static void test(void)
{
    char text[64];
    ct_put("in", "first line\nsecond line\n");
    FILE *f = P(freopen("in", "r", stdin));
    YES(f == stdin && fileno(f) == 0);
    printf("%s", fgets(text, sizeof text, stdin));
    fflush(stdout);
    int saved = OK(dup(1));
    OK(freopen("out", "w", stdout));
    printf("to a file\n");
    system("echo by the shell");
    fflush(stdout);
    OK(dup2(saved, 1));
    clearerr(stdout);
    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("restored");
    ct_cat("out");
    int fd = OK(open("fd", O_CREAT | O_RDWR, 0644));
    f = P(fdopen(fd, "w+"));
    fputs("through a descriptor", f);
    fflush(f);
    T(lseek(fd, 0, SEEK_CUR));
    T(fclose(f));
    T(close(fd));
    fd = OK(open("fd", O_RDONLY));
    P(fdopen(fd, "w"));
    f = OK(fdopen(fd, "r"));
    T(fseek(f, 8, SEEK_SET));
    printf("%s\n", fgets(text, sizeof text, f));
    T(fileno(f) == fd);
    fclose(f);
    f = P(tmpfile());
    fputs("temporary", f);
    rewind(f);
    printf("%s\n", fgets(text, sizeof text, f));
    fclose(f);
    f = OK(fopen("mixed", "w"));
    fputs("A", f);
    fflush(f);
    OK(write(fileno(f), "B", 1));
    fputs("C", f);
    fclose(f);
    ct_cat("mixed");
    f = OK(fopen("mixed", "r"));
    int c = fgetc(f);
    CHILD("child reads on its own buffer") { printf("%c%c\n", c, fgetc(f)); }
    printf("%c\n", fgetc(f));
    fclose(f);
    f = OK(fopen("unlinked", "w+"));
    unlink("unlinked");
    fputs("still", f);
    rewind(f);
    printf("%s\n", fgets(text, sizeof text, f));
    fclose(f);
    T(rename("mixed", "renamed"));
    T(remove("renamed"));
    T(truncate("fd", 7));
    ct_cat("fd");
}
