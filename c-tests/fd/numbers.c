/* Numbers: the lowest free one is used; descriptors 0, 1 and 2 can be files of the directory. */
#include "ct.h"

static void test(void)
{
    ct_put("f", "input line\n");
    int a = OK(open("f", O_RDONLY)), b = OK(open("f", O_RDONLY)), c = OK(open("f", O_RDONLY));
    YES(b == a + 1 && c == b + 1);
    close(b);
    YES(open(".", O_RDONLY) == b);
    close(a);
    YES(open("f", O_RDONLY) == a);
    fflush(stdout);
    CHILD("standard input, output and error in files") {
        close(0);
        if (open("f", O_RDONLY) != 0) _exit(1);
        close(1);
        if (open("out", O_CREAT | O_WRONLY, 0644) != 1) _exit(2);
        close(2);
        if (open("err", O_CREAT | O_WRONLY, 0644) != 2) _exit(3);
        char line[64];
        if (!fgets(line, sizeof line, stdin)) _exit(4);
        printf("got %s", line);
        fprintf(stderr, "complaint\n");
        perror("message");
        fflush(stdout);
    }
    ct_cat("out");
    ct_cat("err");
    CHILD("everything closed") {
        for (int i = 0; i < 100; i++) close(i);
        if (open("f", O_RDONLY) != 0) _exit(1);
        char text[16];
        if (read(0, text, 16) != 11) _exit(2);
    }
}
