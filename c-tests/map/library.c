/* dlopen of a shared object that lies in the directory, and code mapped by hand from a file there. */
#include "ct.h"
#include <dlfcn.h>

static void copy(const char *from, const char *to, int mode)
{
    static char text[65536];
    int in = OK(open(from, O_RDONLY)), out = OK(open(to, O_CREAT | O_WRONLY, mode));
    for (ssize_t n; (n = OK(read(in, text, sizeof text))) > 0;) OK(write(out, text, n));
    close(in);
    close(out);
}

static void test(void)
{
    Dl_info info;
    void *libm = P(dlopen("libm.so.6", RTLD_NOW));
    OK(dladdr(dlsym(libm, "cos"), &info));
    copy(info.dli_fname, "libours.so", 0644);
    void *ours = P(dlopen(ct_abs("libours.so"), RTLD_NOW));
    double (*cosine)(double) = (double (*)(double))dlsym(ours, "cos");
    printf("cos(0) = %g\n", cosine ? cosine(0) : -1);
    YES(ours != libm);
    YES(!dlopen(ct_abs("none.so"), RTLD_NOW));
    ct_put("bad.so", "not an object");
    YES(!dlopen(ct_abs("bad.so"), RTLD_NOW));
    T(dlclose(ours));
    const unsigned char code[] = {0xb8, 42, 0, 0, 0, 0xc3};
    int fd = OK(open("code", O_CREAT | O_RDWR, 0755));
    OK(write(fd, code, sizeof code));
    OK(ftruncate(fd, 4096));
    int (*function)(void) = P(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0));
    printf("code returned %d\n", function());
}
