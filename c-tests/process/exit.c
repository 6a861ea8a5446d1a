/* Ends of processes: stdio is flushed by exit and not by _exit, files of killed processes keep what was written. */
#include "ct.h"

static FILE *at_exit_file;
static void at_exit(void) { fputs("at exit\n", at_exit_file); }

static void test(void)
{
    CHILD("exit flushes") {
        FILE *f = OK(fopen("a", "w"));
        fputs("buffered", f);
        exit(7);
    }
    ct_cat("a");
    CHILD("_exit does not") {
        FILE *f = OK(fopen("b", "w"));
        fputs("buffered", f);
        _exit(8);
    }
    ct_cat("b");
    CHILD("atexit works on files") {
        at_exit_file = OK(fopen("c", "w"));
        atexit(at_exit);
        exit(0);
    }
    ct_cat("c");
    CHILD("killed") {
        int fd = OK(open("d", O_CREAT | O_WRONLY, 0644));
        OK(write(fd, "written", 7));
        raise(SIGKILL);
    }
    ct_cat("d");
    CHILD("abort") {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        ct_put("e", "before abort");
        abort();
    }
    ct_cat("e");
    CHILD("unlinked and killed") {
        OK(open("f", O_CREAT | O_WRONLY, 0644));
        OK(unlink("f"));
        raise(SIGTERM);
    }
    ct_ls(".");
}
