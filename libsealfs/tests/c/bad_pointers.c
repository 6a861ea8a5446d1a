/* Pointers to nowhere are errors of the call, not of the program. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

static void tell(const char *call, long result) {
    printf("%-60s %ld %d\n", call, result, result < 0 ? errno : 0);
}

#define TRY(call) tell(#call, (long)(call))

static void all(char *bad) {
    struct stat facts;
    TRY(syscall(SYS_open, bad, O_RDONLY));
    TRY(syscall(SYS_openat, AT_FDCWD, bad, O_RDONLY));
    TRY(syscall(SYS_stat, bad, &facts));
    TRY(syscall(SYS_newfstatat, AT_FDCWD, bad, &facts, 0));
    TRY(syscall(SYS_newfstatat, AT_FDCWD, "/", bad, 0));
    TRY(syscall(SYS_access, bad, 0));
    TRY(syscall(SYS_readlink, bad, &facts, 10));
    TRY(syscall(SYS_mkdir, bad, 0700));
    TRY(syscall(SYS_rename, bad, "/nonexistent/x"));
    TRY(syscall(SYS_chdir, bad));
    TRY(syscall(SYS_unlinkat, AT_FDCWD, bad, 0));
    TRY(syscall(SYS_getcwd, bad, 100));
    TRY(syscall(SYS_rt_sigaction, SIGSEGV, bad, NULL, 8));
    TRY(syscall(SYS_rt_sigaction, SIGSEGV, NULL, bad, 8));
    TRY(syscall(SYS_write, 2, bad, 10));
}

int main(void) {
    char *hole = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(hole + 4096, 4096, PROT_NONE);
    memset(hole, 'x', 4096);
    all(hole + 4096);
    all((char *)1);
    all((char *)0xdead000000000000UL);
    puts("a string that runs into the hole");
    TRY(syscall(SYS_open, hole + 4090, O_RDONLY));
    puts("a string that ends before it");
    hole[4095] = 0;
    TRY(syscall(SYS_open, hole + 4090, O_RDONLY));
    signal(SIGSEGV, SIG_IGN);
    puts("with SIGSEGV ignored");
    all((char *)1);
    signal(SIGSEGV, SIG_DFL);
    return 0;
}
