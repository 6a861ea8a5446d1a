/* posix_spawn, vfork, popen, system: file actions, redirection into files, working directory. */
#include "ct.h"
#include <spawn.h>
extern char **environ;

static void spawned(const char *label, posix_spawn_file_actions_t *actions, char *const argv[])
{
    pid_t pid;
    fflush(stdout);
    int e = posix_spawnp(&pid, argv[0], actions, NULL, argv, environ);
    if (e) printf("%s: %s\n", label, ct_errname(e));
    else ct_wait(label, pid);
}

static void test(void)
{
    char text[64];
    posix_spawn_file_actions_t a;
    mkdir("d", 0755);
    ct_put("in", "line one\nline two\n");
    ct_put("d/only-here", "x");
    posix_spawn_file_actions_init(&a);
    posix_spawn_file_actions_addopen(&a, 0, "in", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&a, 1, "out", O_CREAT | O_WRONLY | O_TRUNC, 0640);
    spawned("cat", &a, (char *[]){"cat", NULL});
    ct_cat("out");
    ct_stat("out");
    posix_spawn_file_actions_init(&a);
    int fd = OK(open("out", O_WRONLY | O_APPEND | O_CLOEXEC));
    posix_spawn_file_actions_adddup2(&a, fd, 1);
    posix_spawn_file_actions_addchdir_np(&a, "d");
    spawned("ls", &a, (char *[]){"ls", NULL});
    ct_cat("out");
    posix_spawn_file_actions_init(&a);
    posix_spawn_file_actions_addopen(&a, 1, "none/x", O_CREAT | O_WRONLY, 0644);
    spawned("bad action", &a, (char *[]){"true", NULL});
    spawned("no program", NULL, (char *[]){"no-such-program-here", NULL});
    printf("cwd stays: %d\n", access("in", F_OK) == 0);
    T(system("cat in > copy; echo more >> copy; exit 3"));
    ct_cat("copy");
    FILE *p = P(popen("cat < in | tr a-z A-Z", "r"));
    while (fgets(text, sizeof text, p)) printf("popen: %s", text);
    T(pclose(p));
    p = P(popen("cat > from-popen", "w"));
    fputs("through a pipe\n", p);
    T(pclose(p));
    ct_cat("from-popen");
    fflush(stdout);
    pid_t pid = vfork();
    if (pid == 0) {
        execlp("sh", "sh", "-c", "pwd > where; echo vfork >> out", NULL);
        _exit(127);
    }
    ct_wait("vfork", pid);
    FILE *where = OK(fopen("where", "r"));
    char path[PATH_MAX] = "";
    if (fgets(path, sizeof path, where)) path[strcspn(path, "\n")] = 0;
    printf("%s\n", ct_rel(path));
    ct_cat("out");
    pid = vfork();
    if (pid == 0) _exit(access("in", F_OK) || access("none", F_OK) == 0);
    ct_wait("vfork with file calls", pid);
}
