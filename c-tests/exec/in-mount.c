/* exec of a script and of a program that lie in the directory: by path, PATH, relative, fexecve; errnos. */
#define CT_HELPER
#include "ct.h"

static int helper(int argc, char **argv)
{
    char exe[PATH_MAX];
    setvbuf(stdout, NULL, _IOLBF, 0);
    OK(getcwd(ct_dir, sizeof ct_dir));
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[n > 0 ? n : 0] = 0;
    printf("program with %d words, first %s, own file %s\n", argc, argv[0], ct_rel(exe));
    ct_cat("script");
    return 5;
}

static void copy(const char *from, const char *to)
{
    static char text[65536];
    int in = OK(open(from, O_RDONLY)), out = OK(open(to, O_CREAT | O_WRONLY | O_TRUNC, 0755));
    for (ssize_t n; (n = OK(read(in, text, sizeof text))) > 0;) OK(write(out, text, n));
    close(in);
    close(out);
}

static void test(void)
{
    char *none[] = {NULL}, *words[] = {"name", "-", "one", "two", NULL};
    ct_put("script", "#!/bin/sh\necho \"script: $# $1\"\nread line < \"$0\" && echo \"$line\"\nexit 4\n");
    CHILD("not executable") { T(execl("./script", "script", "a", NULL)); }
    OK(chmod("script", 0755));
    CHILD("relative") { execl("./script", "script", "a", "b", NULL); }
    CHILD("absolute") { execl(ct_abs("script"), "script", "c", NULL); }
    CHILD("by PATH") {
        setenv("PATH", ct_dir, 1);
        execlp("script", "script", "d", NULL);
    }
    copy("/proc/self/exe", "program");
    CHILD("a program") { execv("./program", words); }
    CHILD("a program, absolute") { execv(ct_abs("program"), words); }
    CHILD("fexecve") { fexecve(OK(open("program", O_RDONLY | O_CLOEXEC)), words, (char *[]){"A=1", NULL}); }
    CHILD("O_PATH fexecve") { fexecve(OK(open("program", O_PATH)), words, (char *[]){"A=1", NULL}); }
    CHILD("with an empty environment") { execve("./program", words, none); }
    symlink("program", "link");
    CHILD("through a link") { execv("./link", words); }
    ct_put("interpreted", "");
    char line[PATH_MAX + 32];
    snprintf(line, sizeof line, "#!%s -\nbody\n", ct_abs("program"));
    ct_put("interpreted", line);
    OK(chmod("interpreted", 0755));
    CHILD("an interpreter in the directory") { execl("./interpreted", "interpreted", "x", NULL); }
    ct_put("no-interpreter", "#!/none/such\n");
    OK(chmod("no-interpreter", 0755));
    ct_put("garbage", "not a program");
    OK(chmod("garbage", 0755));
    mkdir("dir", 0755);
    CHILD("errnos") {
        T(execv("./no-interpreter", words));
        T(execv("./garbage", words));
        T(execv("./dir", words));
        T(execv("./none", words));
        T(execv("./script/x", words));
        T(execv("", words));
        T(execv(BAD, words));
    }
    CHILD("execlp runs what is no program by the shell") { execlp("./plain", "plain", NULL); }
    ct_put("plain", "echo plain text: $1\n");
    OK(chmod("plain", 0755));
    CHILD("execlp runs what is no program by the shell") { execlp("./plain", "plain", "word", NULL); }
    OK(unlink("program"));
    CHILD("removed") { T(execv("./program", words)); }
}
