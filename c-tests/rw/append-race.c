/* O_APPEND: four processes append records to one file; none is lost, torn or written over. */
#include "ct.h"

enum { WRITERS = 4, RECORDS = 200, LENGTH = 64 };

static void writer(int who)
{
    int fd = OK(open("log", O_WRONLY | O_APPEND | O_CREAT, 0644));
    for (int i = 0; i < RECORDS; i++) {
        char record[LENGTH + 1];
        snprintf(record, sizeof record, "%d %06d ", who, i);
        memset(record + 9, 'a' + who, LENGTH - 10);
        record[LENGTH - 1] = '\n';
        if (write(fd, record, LENGTH) != LENGTH) _exit(1);
    }
}

static void test(void)
{
    pid_t pids[WRITERS];
    for (int w = 0; w < WRITERS; w++)
        if ((pids[w] = ct_fork()) == 0) {
            writer(w);
            _exit(0);
        }
    for (int w = 0; w < WRITERS; w++) ct_wait("writer", pids[w]);
    ct_stat("log");
    int next[WRITERS] = {0}, wrong = 0;
    char record[LENGTH];
    int fd = OK(open("log", O_RDONLY));
    while (ct_read_all(fd, record, LENGTH) == LENGTH) {
        int who = record[0] - '0', number = atoi(record + 2);
        if (who < 0 || who >= WRITERS || number != next[who] || record[LENGTH - 1] != '\n' || record[20] != 'a' + who) wrong++;
        else next[who]++;
    }
    for (int w = 0; w < WRITERS; w++) printf("writer %d: %d records in order\n", w, next[w]);
    printf("wrong: %d\n", wrong);
}
