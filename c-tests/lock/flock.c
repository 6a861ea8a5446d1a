/* flock: shared and exclusive, per description, conversion, inheritance by fork and exec, directories. */
#include "ct.h"

static void test(void)
{
    int a = OK(open("f", O_CREAT | O_RDONLY, 0644)), b = OK(open("f", O_RDONLY)), c = OK(open("f", O_RDWR));
    T(flock(a, LOCK_SH));
    T(flock(b, LOCK_SH | LOCK_NB));
    T(flock(c, LOCK_EX | LOCK_NB));
    T(flock(b, LOCK_UN));
    T(flock(a, LOCK_EX | LOCK_NB));
    T(flock(b, LOCK_SH | LOCK_NB));
    int two = dup(a);
    T(flock(two, LOCK_SH | LOCK_NB));
    T(flock(b, LOCK_SH | LOCK_NB));
    T(flock(two, LOCK_UN));
    T(flock(c, LOCK_EX | LOCK_NB));
    T(flock(b, LOCK_UN));
    T(flock(c, LOCK_EX | LOCK_NB));
    CHILD("child shares the lock and may drop it") {
        T(flock(c, LOCK_EX | LOCK_NB));
        int own = OK(open("f", O_RDONLY));
        T(flock(own, LOCK_SH | LOCK_NB));
        T(flock(c, LOCK_UN));
    }
    T(flock(b, LOCK_EX | LOCK_NB));
    T(flock(b, LOCK_UN));
    T(flock(c, 0));
    T(flock(-1, LOCK_SH));
    int d = OK(open(".", O_RDONLY)), e = OK(open(".", O_RDONLY));
    T(flock(d, LOCK_EX));
    T(flock(e, LOCK_EX | LOCK_NB));
    struct flock l = {.l_type = F_WRLCK};
    T(flock(c, LOCK_EX));
    int w = OK(open("f", O_RDWR));
    T(fcntl(w, F_SETLK, &l));
    T(flock(c, LOCK_UN));
    int held = OK(open("g", O_CREAT | O_RDWR, 0644)), go[2];
    OK(pipe(go));
    T(flock(held, LOCK_EX));
    pid_t pid = ct_fork();
    if (pid == 0) {
        dup2(go[0], 0);
        close(go[1]);
        execlp("cat", "cat", NULL);
        _exit(127);
    }
    close(held);
    close(go[0]);
    int other = OK(open("g", O_RDWR));
    puts("a program that never touches the file keeps the lock");
    T(flock(other, LOCK_EX | LOCK_NB));
    close(go[1]);
    ct_wait("cat", pid);
    T(flock(other, LOCK_EX));
}
