/* A program replaced while it runs goes on; the new one runs the next time; a changed script is seen. */
#include "ct.h"

static void test(void)
{
    int go[2], out[2];
    char text[64];
    OK(pipe(go));
    OK(pipe(out));
    ct_put("script", "#!/bin/sh\necho started\nread x\necho first $x\n");
    OK(chmod("script", 0755));
    pid_t pid = ct_fork();
    if (pid == 0) {
        dup2(go[0], 0);
        dup2(out[1], 1);
        execl("./script", "script", NULL);
        _exit(100);
    }
    ct_bytes("says", text, read(out[0], text, sizeof text));
    ct_put("new", "#!/bin/sh\necho second\n");
    OK(chmod("new", 0755));
    OK(rename("new", "script"));
    OK(write(go[1], "go\n", 3));
    ct_wait("running", pid);
    ct_bytes("says", text, read(out[0], text, sizeof text));
    CHILD("again") { execl("./script", "script", NULL); }
    ct_put("script", "#!/bin/sh\necho third\n");
    CHILD("changed in place") { execl("./script", "script", NULL); }
    T(chmod("script", 0644));
    CHILD("no longer executable") { T(execl("./script", "script", NULL)); }
}
