/* ".." leads out of the directory and back in; relative paths across; the parent lists the directory. */
#include "ct.h"

static void test(void)
{
    struct stat up, down, st;
    char path[PATH_MAX * 2];
    const char *name = strrchr(ct_dir, '/') + 1;
    ct_put("f", "inside");
    snprintf(path, sizeof path, "../%s/f", name);
    T(stat(path, &st));
    OK(stat("..", &up));
    OK(stat(".", &down));
    YES(up.st_ino != down.st_ino);
    T(chdir(".."));
    OK(stat(".", &st));
    YES(st.st_ino == up.st_ino);
    T(chdir(name));
    ct_cat("f");
    int found = 0;
    DIR *d = OK(opendir(".."));
    for (struct dirent *e; (e = readdir(d));) found += !strcmp(e->d_name, name);
    closedir(d);
    printf("listed by the parent: %d\n", found);
    char out[PATH_MAX * 2] = "";
    for (int i = 0; i < 30; i++) strcat(out, "../");
    strcat(out, "dev/null");
    int fd = F(open(out, O_WRONLY));
    T(write(fd, "x", 1));
    strcpy(out, "");
    for (int i = 0; i < 30; i++) strcat(out, "../");
    strcat(out, ct_dir + 1);
    strcat(out, "/f");
    ct_fd("down again by a relative path", open(out, O_RDONLY));
    symlink("/etc", "etc");
    F(open("etc/passwd", O_RDONLY));
    T(stat("etc/../dev/null", &st));
    T(chdir("etc"));
    printf("%s\n", getcwd(path, sizeof path));
    T(chdir("/"));
    snprintf(path, sizeof path, ".%s/f", ct_dir);
    T(stat(path, &st));
    snprintf(path, sizeof path, "/usr/..%s/f", ct_dir);
    T(stat(path, &st));
    snprintf(path, sizeof path, "//%s///f", ct_dir);
    T(stat(path, &st));
    snprintf(path, sizeof path, "/none/..%s/f", ct_dir);
    T(stat(path, &st));
}
