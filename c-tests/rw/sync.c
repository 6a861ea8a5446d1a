/* fsync, fdatasync, syncfs, sync_file_range, posix_fadvise, readahead: results and errnos. */
#include "ct.h"

static void test(void)
{
    int fd = OK(open("f", O_CREAT | O_RDWR, 0644));
    T(write(fd, "data", 4));
    T(fsync(fd));
    T(fdatasync(fd));
    T(syncfs(fd));
    T(sync_file_range(fd, 0, 4, SYNC_FILE_RANGE_WRITE));
    TE(posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL));
    TE(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
    TE(posix_fadvise(fd, 0, 0, 99));
    TE(posix_fadvise(-1, 0, 0, POSIX_FADV_NORMAL));
    T(readahead(fd, 0, 4096));
    int ro = OK(open("f", O_RDONLY));
    T(fsync(ro));
    T(fdatasync(ro));
    int dir = OK(open(".", O_RDONLY));
    T(fsync(dir));
    T(fdatasync(dir));
    T(syncfs(dir));
    T(unlink("f"));
    T(write(fd, "more", 4));
    T(fsync(fd));
    T(fsync(-1));
    T(fdatasync(999));
    T(syncfs(-1));
    int p[2];
    OK(pipe(p));
    T(fsync(p[0]));
    sync();
    puts("sync returned");
}
