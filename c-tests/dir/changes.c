/* Listing while names come and go: what stays is seen exactly once, what is gone before is not seen. */
#include "ct.h"

static void test(void)
{
    char name[32];
    int stay = 0, twice = 0, gone = 0;
    unsigned char seen[400] = {0};
    for (int i = 0; i < 400; i++) {
        snprintf(name, sizeof name, "s%d", i);
        close(OK(creat(name, 0644)));
    }
    for (int i = 0; i < 50; i++) {
        snprintf(name, sizeof name, "g%d", i);
        close(OK(creat(name, 0644)));
        OK(unlink(name));
    }
    DIR *d = OK(opendir("."));
    int n = 0;
    for (struct dirent *e; (e = readdir(d)); n++) {
        if (e->d_name[0] == 'g') gone++;
        if (e->d_name[0] == 's' && seen[atoi(e->d_name + 1)]++) twice++;
        if (n % 10 == 0 && n < 1000) {
            snprintf(name, sizeof name, "t%d", n);
            close(OK(creat(name, 0644)));
        }
        if (n == 100) {
            rename("s0", "moved");
            rename("moved", "s0");
        }
    }
    seen[0] = 1;
    for (int i = 0; i < 400; i++) stay += seen[i] > 0;
    closedir(d);
    printf("stay %d, twice among them %d, gone %d\n", stay, twice > 1, gone);
    int left = 0;
    d = OK(opendir("."));
    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.') {
            OK(unlinkat(dirfd(d), e->d_name, 0));
            left++;
        }
    closedir(d);
    YES(left > 400);
    ct_ls(".");
}
