/* Eight threads: own files, one shared file by pread/pwrite, one shared offset, opens and closes all the while. */
#include "ct.h"

enum { THREADS = 8, ROUNDS = 100 };
static int shared, stream;
static int wrong[THREADS];

static void *work(void *argument)
{
    int who = (int)(intptr_t)argument;
    char name[16], block[100], back[100];
    snprintf(name, sizeof name, "t%d", who);
    int own = open(name, O_CREAT | O_RDWR, 0644);
    memset(block, 'A' + who, sizeof block);
    for (int i = 0; i < ROUNDS; i++) {
        off_t at = (off_t)(i * THREADS + who) * 100;
        if (pwrite(shared, block, 100, at) != 100) wrong[who]++;
        if (pread(shared, back, 100, at) != 100 || memcmp(block, back, 100)) wrong[who]++;
        if (write(own, block, 100) != 100) wrong[who]++;
        if (write(stream, block, 100) != 100) wrong[who]++;
        int fd = open(name, O_RDONLY);
        struct stat st;
        if (fd < 0 || fstat(fd, &st) < 0 || st.st_size != (i + 1) * 100) wrong[who]++;
        close(fd);
    }
    close(own);
    return NULL;
}

static void test(void)
{
    pthread_t threads[THREADS];
    shared = OK(open("shared", O_CREAT | O_RDWR, 0644));
    stream = OK(open("stream", O_CREAT | O_RDWR, 0644));
    for (int t = 0; t < THREADS; t++) pthread_create(&threads[t], NULL, work, (void *)(intptr_t)t);
    for (int t = 0; t < THREADS; t++) {
        pthread_join(threads[t], NULL);
        printf("thread %d: wrong %d\n", t, wrong[t]);
    }
    ct_sum("shared");
    ct_stat("stream");
    int counts[THREADS] = {0}, torn = 0;
    char block[100];
    OK(lseek(stream, 0, SEEK_SET));
    while (ct_read_all(stream, block, 100) == 100) {
        for (int i = 1; i < 100; i++) torn += block[i] != block[0];
        if (block[0] >= 'A' && block[0] < 'A' + THREADS) counts[block[0] - 'A']++;
    }
    for (int t = 0; t < THREADS; t++) printf("%d ", counts[t]);
    printf("torn %d\n", torn);
    CHILD("fork of a program with threads") {
        ct_put("child", "made after fork");
        ct_cat("child");
    }
}
