/* Two processes write the same blocks of one chunk: what stays in each block is one whole write. */
#include "ct.h"

enum { BLOCK = 4096, BLOCKS = 16, ROUNDS = 60 };

static void writer(int who)
{
    char block[BLOCK];
    int fd = OK(open("f", O_WRONLY));
    for (int i = 0; i < ROUNDS; i++) {
        memset(block, who * 100 + i % 100, BLOCK);
        for (int b = 0; b < BLOCKS; b++) OK(pwrite(fd, block, BLOCK, b * BLOCK));
    }
}

static void test(void)
{
    char block[BLOCK];
    int torn = 0;
    int fd = OK(open("f", O_CREAT | O_RDWR, 0644));
    OK(ftruncate(fd, BLOCK * BLOCKS));
    pid_t a = ct_fork();
    if (a == 0) { writer(1); _exit(0); }
    pid_t b = ct_fork();
    if (b == 0) { writer(2); _exit(0); }
    ct_wait("a", a);
    ct_wait("b", b);
    for (int i = 0; i < BLOCKS; i++) {
        if (pread(fd, block, BLOCK, i * BLOCK) != BLOCK) torn++;
        for (int k = 1; k < BLOCK; k++) torn += block[k] != block[0];
    }
    printf("torn %d\n", torn);
    ct_stat("f");
}
