/* Four processes replace one name by rename at the same time: a reader always finds one whole file. */
#include "ct.h"

enum { WRITERS = 4, ROUNDS = 60, SIZE = 3000 };

static void writer(int who)
{
    char text[SIZE], name[16];
    memset(text, 'a' + who, SIZE);
    snprintf(name, sizeof name, "tmp%d", who);
    for (int i = 0; i < ROUNDS; i++) {
        int fd = OK(open(name, O_CREAT | O_EXCL | O_WRONLY, 0644));
        OK(write(fd, text, SIZE));
        OK(close(fd));
        OK(rename(name, "target"));
    }
}

static void test(void)
{
    pid_t pids[WRITERS];
    char text[SIZE + 1];
    int wrong = 0, missing = 0, running = WRITERS;
    memset(text, 'z', SIZE);
    text[SIZE] = 0;
    ct_put("target", text);
    for (int w = 0; w < WRITERS; w++)
        if ((pids[w] = ct_fork()) == 0) {
            writer(w);
            _exit(0);
        }
    while (running) {
        int fd = open("target", O_RDONLY);
        if (fd < 0) missing++;
        else {
            ssize_t n = ct_read_all(fd, text, SIZE + 1);
            for (int i = 1; i < n; i++) wrong += text[i] != text[0];
            wrong += n != SIZE;
            close(fd);
        }
        int status;
        if (waitpid(-1, &status, WNOHANG) > 0) {
            running--;
            wrong += status != 0;
        }
    }
    printf("wrong %d, missing %d\n", wrong, missing);
    ct_stat("target");
    ct_ls(".");
}
