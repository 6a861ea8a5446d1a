/* open: O_DIRECTORY and O_NOFOLLOW. */
#include "ct.h"

static void test(void)
{
    ct_put("f", "x");
    mkdir("d", 0755);
    symlink("f", "to-f");
    symlink("d", "to-d");
    symlink("loop", "loop");
    F(open("f", O_RDONLY | O_DIRECTORY));
    F(open("d", O_RDONLY | O_DIRECTORY));
    F(open("to-f", O_RDONLY | O_DIRECTORY));
    F(open("to-d", O_RDONLY | O_DIRECTORY));
    F(open("none", O_RDONLY | O_DIRECTORY));
    F(open("to-f", O_RDONLY | O_NOFOLLOW));
    F(open("to-d", O_RDONLY | O_NOFOLLOW));
    F(open("to-d", O_RDONLY | O_NOFOLLOW | O_DIRECTORY));
    F(open("to-d/", O_RDONLY | O_NOFOLLOW));
    F(open("to-d/.", O_RDONLY | O_NOFOLLOW));
    F(open("loop", O_RDONLY));
    F(open("loop", O_RDONLY | O_NOFOLLOW));
    F(open("loop/x", O_RDONLY));
    F(open("f", O_RDONLY | O_NOFOLLOW));
    F(open("to-f", O_RDWR | O_NOFOLLOW | O_CREAT, 0644));
    F(open("d", O_RDWR | O_DIRECTORY));
    F(open("to-f/", O_RDONLY));
}
