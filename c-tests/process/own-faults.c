/* A program's SIGSEGV handler sees its own faults with address and code, and may go on; file calls between them work. */
#include "ct.h"
#include <setjmp.h>

static sigjmp_buf back;
static volatile long address;
static volatile int code;

static void handler(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)context;
    address = (long)info->si_addr;
    code = info->si_code;
    siglongjmp(back, 1);
}

static void test(void)
{
    struct sigaction act = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO}, old;
    ct_put("f", "data");
    int fd = OK(open("f", O_RDWR));
    OK(sigaction(SIGSEGV, &act, NULL));
    OK(sigaction(SIGBUS, &act, NULL));
    for (int i = 0; i < 3; i++) {
        if (sigsetjmp(back, 1) == 0) *(volatile char *)(16L + i) = 1;
        else printf("fault at %ld, code is MAPERR: %d\n", address, code == SEGV_MAPERR);
        T(read(fd, BAD, 4));
        T(pread(fd, (char[4]){0}, 4, 0));
    }
    OK(sigaction(SIGSEGV, NULL, &old));
    YES(old.sa_sigaction == handler && (old.sa_flags & SA_SIGINFO));
    OK(ftruncate(fd, 0));
    volatile char *m = OK(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0));
    if (sigsetjmp(back, 1) == 0) printf("%d\n", m[0]);
    else YES(address == (long)m);
    CHILD("default action again") {
        signal(SIGSEGV, SIG_DFL);
        *(volatile char *)BAD = 1;
    }
}
