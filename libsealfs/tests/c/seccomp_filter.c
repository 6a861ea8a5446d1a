/* A filter that allows what this program does and kills everything else; calls on descriptors and
   paths must cause no other. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ALLOW(number) \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

int main(void) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW(SYS_read), ALLOW(SYS_write), ALLOW(SYS_openat), ALLOW(SYS_close), ALLOW(SYS_dup),
        ALLOW(SYS_newfstatat), ALLOW(SYS_exit_group), ALLOW(SYS_rt_sigaction),
        ALLOW(SYS_rt_sigreturn), /* as every filter of a program with handlers does */
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    struct stat facts;
    char byte;
    int file = open("/dev/zero", O_RDONLY), other;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) return 1;
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) return 1;
    if (read(file, &byte, 1) != 1 || stat("/etc", &facts)) return 2;
    other = open("/etc/passwd", O_RDONLY);
    if (other < 0 || read(other, &byte, 1) != 1 || close(other)) return 3;
    other = dup(file);
    if (other < 0 || read(other, &byte, 1) != 1 || close(other)) return 4;
    if (signal(SIGSEGV, SIG_DFL) == SIG_ERR || open((char *)1, O_RDONLY) >= 0) return 5;
    if (open("/nonexistent", O_RDONLY) >= 0) return 6;
    if (write(1, "alive\n", 6) != 6) return 7;
    _exit(0);
}
