/* SIGSEGV and SIGBUS as the program set them: what it reads back, who is called, how it dies. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static sigjmp_buf out;
static volatile int calls, code, masked, on_stack, matches;
static char *volatile hole;
static char stack[32768] __attribute__((aligned(16)));

static void plain(int signal) { (void)signal; calls++; siglongjmp(out, 1); }

static void full(int signal, siginfo_t *info, void *context) {
    sigset_t now;
    char here;
    (void)context;
    calls++;
    code = info->si_code;
    matches = info->si_addr == hole && signal == SIGSEGV;
    sigprocmask(SIG_BLOCK, NULL, &now);
    masked = sigismember(&now, SIGSEGV) * 2 + sigismember(&now, SIGUSR1);
    on_stack = &here > stack && &here < stack + sizeof stack;
    open((char *)1, O_RDONLY); /* a bad pointer inside a fault handler */
    siglongjmp(out, 1);
}

static void touch(void) { *hole = 1; }

static void ask(const char *when) {
    struct sigaction now;
    sigaction(SIGSEGV, NULL, &now);
    printf("%s: handler %s flags %x masked %d\n", when,
           now.sa_handler == SIG_DFL ? "default" : now.sa_handler == SIG_IGN ? "ignored"
           : now.sa_handler == plain ? "plain" : now.sa_sigaction == full ? "full" : "?",
           now.sa_flags & ~0x04000000, sigismember(&now.sa_mask, SIGUSR1));
}

static void in_child(const char *what, void (*body)(void)) {
    int status;
    pid_t child;
    fflush(stdout);
    child = fork();
    if (child == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        body();
        _exit(99);
    }
    waitpid(child, &status, 0);
    printf("%s: signal %d exit %d\n", what, WIFSIGNALED(status) ? WTERMSIG(status) : 0,
           WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

static void raise_it(void) { raise(SIGSEGV); }
static void kill_it(void) { kill(getpid(), SIGBUS); }
static void ignore_touch(void) { signal(SIGSEGV, SIG_IGN); touch(); }
static void ignore_raise(void) { signal(SIGSEGV, SIG_IGN); raise(SIGSEGV); _exit(3); }
static void once(void) {
    struct sigaction action = {.sa_handler = plain, .sa_flags = SA_RESETHAND | SA_NODEFER};
    sigaction(SIGSEGV, &action, NULL);
    if (!sigsetjmp(out, 1)) touch();
    ask("after one");
    fflush(stdout);
    touch();
}
static void blocked(void) {
    sigset_t set;
    sigfillset(&set);
    sigprocmask(SIG_SETMASK, &set, NULL);
    touch();
}
static volatile int stop_never;
static int deep(volatile char *from) {
    volatile char room[4096];
    room[0] = from[0];
    return stop_never == 1 ? 0 : deep(room) + room[0];
}
static void overflow(void) { char zero = 0; _exit(deep(&zero)); }
static void leave(int signal) { (void)signal; _exit(7); }
static void overflow_handled(void) {
    struct sigaction action = {.sa_handler = leave, .sa_flags = SA_ONSTACK};
    sigaction(SIGSEGV, &action, NULL);
    overflow();
}
static void exec_ignored(void) {
    signal(SIGSEGV, SIG_IGN);
    execl("/bin/sh", "sh", "-c", "kill -SEGV $$; exit 4", NULL);
}
static void exec_handled(void) {
    signal(SIGSEGV, plain);
    execl("/bin/sh", "sh", "-c", "kill -SEGV $$; exit 4", NULL);
}

int main(void) {
    struct sigaction action = {.sa_sigaction = full, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    stack_t signal_stack = {.ss_sp = stack, .ss_size = sizeof stack};
    hole = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ask("at first");
    signal(SIGSEGV, plain);
    ask("signal()");
    if (!sigsetjmp(out, 1)) touch();
    sigaddset(&action.sa_mask, SIGUSR1);
    sigaltstack(&signal_stack, NULL);
    sigaction(SIGSEGV, &action, NULL);
    ask("sigaction()");
    if (!sigsetjmp(out, 1)) touch();
    printf("calls %d code %d masked %d on its stack %d address %d\n", calls, code, masked,
           on_stack, matches);
    if (!sigsetjmp(out, 1)) raise(SIGSEGV);
    printf("raised: calls %d code %d\n", calls, code);
    int opened = open((char *)1, O_RDONLY);
    printf("bad pointer: %d errno %d, calls %d\n", opened, errno, calls);
    in_child("stack overflow with a signal stack", overflow_handled);
    signal(SIGSEGV, SIG_DFL);
    ask("default again");
    in_child("touch", touch);
    in_child("raise", raise_it);
    in_child("kill", kill_it);
    in_child("ignored touch", ignore_touch);
    in_child("ignored raise", ignore_raise);
    in_child("once", once);
    in_child("all blocked", blocked);
    in_child("stack overflow", overflow);
    in_child("exec with it ignored", exec_ignored);
    in_child("exec with it handled", exec_handled);
    return 0;
}
